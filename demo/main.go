// The demo shows what the switcher does, with nothing but Go installed: it
// runs the real daemon between simulated pools and miners, changes coins as an
// operator would, and shows that no miner notices more than a new job.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	var o options
	flag.IntVar(&o.rounds, "rounds", 0, "end after this many `switches`; 0: at Ctrl-C")
	flag.DurationVar(&o.interval, "interval", 4*time.Second, "pause between switches")
	flag.DurationVar(&o.outage, "outage", 4*time.Second, "how long the bcc pool is down in the third round")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "demo: unexpected argument %q\n", flag.Arg(0))
		os.Exit(2)
	}

	// With SIGPIPE ignored a closed pipe is an error like others, and the
	// daemon is not left behind.
	signal.Ignore(syscall.SIGPIPE)
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer cancel()
	if err := run(ctx, o, newScreen(os.Stdout)); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	rounds   int
	interval time.Duration
	outage   time.Duration
}

// run plays the demo until ctx ends or all rounds are played. It leaves
// neither processes nor files behind. The error says what went wrong, be it
// in the demo or with the miners.
func run(ctx context.Context, o options, out *screen) (err error) {
	dir, err := os.MkdirTemp("", "stratumSwitcher-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	d := &demo{options: o, screen: out, dir: dir, began: time.Now()}
	defer d.close()
	if err := d.start(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // interrupted before there was anything to judge
		}
		return err
	}
	playErr := d.play(ctx)
	if ctx.Err() != nil {
		playErr = nil // a signal is how the demo normally ends
	}
	return errors.Join(playErr, d.verdict())
}
