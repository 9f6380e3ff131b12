// The bench measures what the switcher costs, side by side with HAProxy, nginx
// and a relay that does nothing but read and write: the same simulated pool,
// the same miners, the same lines. See docs/performance.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == childArgument {
		exit(runChild(os.Args[2:]))
	}
	o, err := parseOptions(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	// With SIGPIPE ignored a closed pipe is an error like others, and nothing
	// that was started is left behind.
	signal.Ignore(syscall.SIGPIPE)
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer cancel()
	exit(run(ctx, o))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// childArgument starts the bench as one of its own children.
const childArgument = "child"

// Targets, as flags and results name them.
const (
	targetSwitcher = "switcher"
	targetHAProxy  = "haproxy"
	targetNginx    = "nginx"
	targetFloor    = "floor"  // a relay of bare read and write
	targetDirect   = "direct" // the pool itself, without a proxy

	// With miners that speak TLS.
	targetSwitcherTLS = "switcher-tls" // with the switcher
	targetHAProxyTLS  = "haproxy-tls"  // with HAProxy in front of a switcher
)

// plainTargets are measured unless -targets says otherwise.
var plainTargets = []string{targetSwitcher, targetHAProxy, targetNginx, targetFloor, targetDirect}

var tlsTargets = []string{targetSwitcherTLS, targetHAProxyTLS}

var allTargets = slices.Concat(plainTargets, tlsTargets)

var targetNames = map[string]string{
	targetSwitcherTLS: "switcher, TLS", targetHAProxyTLS: "HAProxy with TLS, then a switcher",
	targetSwitcher: "switcher", targetHAProxy: "HAProxy", targetNginx: "nginx", targetFloor: "bare relay", targetDirect: "direct",
}

// options are the flags.
type options struct {
	Sizes       []int
	Targets     []string
	Rounds      int
	Rate        float64       // shares per second when CPU is measured
	LatencyRate float64       // when latency is
	Span        time.Duration // of one measurement
	Settle      time.Duration // before memory is looked at
	Switches    int
	LoadShares  int // to be submitted during the second half of the switches
	Threads     int
	Quick       bool
	binary      string
	out         string
}

func parseOptions(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	sizes := f.String("sizes", "1000,5000,9000", "numbers of `sessions`")
	targets := f.String("targets", strings.Join(plainTargets, ","), "what to measure, of "+strings.Join(allTargets, ","))
	f.IntVar(&o.Rounds, "rounds", 3, "`rounds`, of which medians are taken; the targets take turns in each")
	f.Float64Var(&o.Rate, "rate", 10000, "`shares` per second of all miners when the CPU they cost is measured")
	f.Float64Var(&o.LatencyRate, "latency-rate", 2000, "`shares` per second when latency is measured")
	f.DurationVar(&o.Span, "span", 5*time.Second, "how long shares are counted")
	f.DurationVar(&o.Settle, "settle", 6*time.Second, "quiet time before memory is looked at")
	f.IntVar(&o.Switches, "switches", 10, "`switches` of all sessions, the second half under load")
	f.IntVar(&o.LoadShares, "load-shares", 48000, "`shares` to be submitted during the switches under load")
	f.IntVar(&o.Threads, "threads", runtime.NumCPU(), "`threads` of HAProxy and the bare relay, worker processes of nginx")
	f.StringVar(&o.binary, "switcher", "./stratumSwitcher", "the daemon's `binary`")
	f.StringVar(&o.out, "out", "bench/out", "`directory` for the results")
	f.BoolVar(&o.Quick, "quick", false, "one short round with 1,000 sessions, unless other flags say more")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	if o.Quick {
		given := map[string]bool{}
		f.Visit(func(f *flag.Flag) { given[f.Name] = true })
		for name, value := range map[string]string{"sizes": "1000", "rounds": "1", "span": "2s", "settle": "5s", "switches": "2", "load-shares": "5000"} {
			if !given[name] {
				if err := f.Set(name, value); err != nil {
					return o, err
				}
			}
		}
	}
	for text := range strings.SplitSeq(*sizes, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || n < 1 {
			return o, fmt.Errorf("-sizes: %q is not a number of sessions, such as 1000,5000", text)
		}
		o.Sizes = append(o.Sizes, n)
	}
	slices.Sort(o.Sizes)
	o.Sizes = slices.Compact(o.Sizes)
	for name := range strings.SplitSeq(*targets, ",") {
		if !slices.Contains(allTargets, name) {
			return o, fmt.Errorf("-targets: no target %q, there are %s", name, strings.Join(allTargets, ","))
		}
		o.Targets = append(o.Targets, name)
	}
	switch {
	case o.Rounds < 1:
		return o, errors.New("-rounds: at least 1")
	case o.Rate < 1 || o.LatencyRate < 1:
		return o, errors.New("-rate, -latency-rate: at least 1 share per second")
	case o.Span < 200*time.Millisecond || o.Settle < 0:
		return o, errors.New("-span: at least 200ms; -settle: not negative")
	case o.Threads < 1:
		return o, errors.New("-threads: at least 1")
	case o.Switches < 0 || o.LoadShares < 0:
		return o, errors.New("-switches, -load-shares: not negative")
	}
	return o, nil
}
