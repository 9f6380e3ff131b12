// The demo shows what the switcher does. It needs nothing but Go. It runs the real
// daemon between simulated pools and miners, changes a coin, lets a pool fail and
// upgrades the program, and shows that no miner loses its connection. It ends by itself.
// Its exit status is 1 if a miner lost its connection or a share.
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
	flag.IntVar(&o.times, "times", 1, "how many `times` the demo is played; 0: until Ctrl-C")
	flag.DurationVar(&o.pause, "pause", 4*time.Second, "`time` between two steps")
	flag.DurationVar(&o.outage, "outage", 4*time.Second, "how long the miners stay at the backup before the btc pool is back")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "demo: unexpected argument %q\n", flag.Arg(0))
		os.Exit(2)
	}

	// With SIGPIPE ignored, writing to a closed pipe is an ordinary error, after which
	// the demo stops the daemon.
	signal.Ignore(syscall.SIGPIPE)
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer cancel()
	if err := run(ctx, o, newScreen(os.Stdout)); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// options are the values of the flags.
type options struct {
	times  int
	pause  time.Duration
	outage time.Duration
}

// run plays the demo to its end or until ctx ends. It leaves neither processes nor files
// behind. The error says what went wrong in the demo or for the miners.
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
		playErr = nil // Ctrl-C is not a failure
	}
	return errors.Join(playErr, d.verdict())
}
