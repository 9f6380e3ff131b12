// The bench measures what the switcher costs. It compares it with HAProxy, nginx and a
// relay that only reads and writes, with the same simulated pool, the same miners and
// the same lines. See docs/performance.md.
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
	// With SIGPIPE ignored, writing to a closed pipe is an ordinary error, after which
	// the bench stops what it has started.
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

// childArgument is the first argument when the bench runs as one of its own children.
const childArgument = "child"

// The names of the targets in flags and results.
const (
	targetSwitcher = "switcher"
	targetHAProxy  = "haproxy"
	targetNginx    = "nginx"
	targetFloor    = "floor"  // a relay that only reads and writes
	targetDirect   = "direct" // the pool itself, without a proxy

	// Targets for miners that use TLS.
	targetSwitcherTLS = "switcher-tls" // the switcher
	targetHAProxyTLS  = "haproxy-tls"  // HAProxy in front of a switcher without TLS
)

// plainTargets is the default of -targets.
var plainTargets = []string{targetSwitcher, targetHAProxy, targetNginx, targetFloor, targetDirect}

var tlsTargets = []string{targetSwitcherTLS, targetHAProxyTLS}

var allTargets = slices.Concat(plainTargets, tlsTargets)

var targetNames = map[string]string{
	targetSwitcherTLS: "switcher, TLS", targetHAProxyTLS: "HAProxy with TLS, then a switcher",
	targetSwitcher: "switcher", targetHAProxy: "HAProxy", targetNginx: "nginx", targetFloor: "bare relay", targetDirect: "direct",
}

// options are the values of the flags.
type options struct {
	Sizes       []int // numbers of sessions
	Targets     []string
	Rounds      int
	Rate        float64       // shares per second while CPU is measured
	LatencyRate float64       // shares per second while latency is measured
	Span        time.Duration // length of one measurement
	Settle      time.Duration // quiet time before memory is measured
	Switches    int
	LoadShares  int // shares submitted during the second half of the switches
	Threads     int
	Quick       bool
	binary      string
	out         string
}

func parseOptions(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	sizes := f.String("sizes", "1000,5000,9000", "numbers of `sessions`")
	targets := f.String("targets", strings.Join(plainTargets, ","), "the `targets` to measure, of "+strings.Join(allTargets, ","))
	f.IntVar(&o.Rounds, "rounds", 3, "`rounds`; the results are their medians, and in each round another target is first")
	f.Float64Var(&o.Rate, "rate", 10000, "`shares` per second of all miners together while CPU is measured")
	f.Float64Var(&o.LatencyRate, "latency-rate", 2000, "`shares` per second while latency is measured")
	f.DurationVar(&o.Span, "span", 5*time.Second, "how long one measurement with shares takes")
	f.DurationVar(&o.Settle, "settle", 6*time.Second, "quiet time before memory is measured")
	f.IntVar(&o.Switches, "switches", 10, "`switches` of all sessions, of which the second half are under load")
	f.IntVar(&o.LoadShares, "load-shares", 48000, "`shares` to be submitted during the switches under load")
	f.IntVar(&o.Threads, "threads", runtime.NumCPU(), "`threads` of HAProxy and the bare relay, worker processes of nginx")
	f.StringVar(&o.binary, "switcher", "./stratumSwitcher", "the daemon's `binary`")
	f.StringVar(&o.out, "out", "bench/out", "`directory` for the results")
	f.BoolVar(&o.Quick, "quick", false, "one short round with 1,000 sessions; other flags override its values")
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
