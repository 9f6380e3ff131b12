// Practice runs two simulated pools and three simulated miners, so that you can try a
// first switch with a switcher that you start and operate yourself. It prints at which
// pool the miners are whenever that changes. If the address of a pool or of the switcher
// is empty, another process runs that pool or the miners.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

const probeWait = 5 * time.Second

func main() {
	var o options
	flag.StringVar(&o.btc, "btc", "127.0.0.1:3333", "`address` of the simulated btc pool")
	flag.StringVar(&o.bcc, "bcc", "127.0.0.1:3334", "`address` of the simulated bcc pool")
	flag.StringVar(&o.switcher, "switcher", "127.0.0.1:18080", "`address` of the switcher")
	flag.StringVar(&o.accounts, "account", "alice", "the miners' sub-account, or several separated by commas")
	flag.IntVar(&o.miners, "miners", 3, "number of `miners` of each sub-account")
	probe := flag.String("probe", "", "connect to this `address` and exit, with status 1 if that fails: for a container's health check")
	flag.Parse()
	if *probe != "" {
		conn, err := net.DialTimeout("tcp", *probe, probeWait)
		if err != nil {
			fmt.Fprintln(os.Stderr, "practice:", err)
			os.Exit(1)
		}
		conn.Close()
		return
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if err := run(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "practice:", err)
		os.Exit(1)
	}
}

type options struct {
	btc, bcc, switcher, accounts string
	miners                       int // of each account
}

// run runs the pools and the miners until ctx ends.
func run(ctx context.Context, o options, out io.Writer) error {
	for _, p := range []struct{ name, addr string }{{"btc", o.btc}, {"bcc", o.bcc}} {
		if p.addr == "" {
			continue
		}
		pool, err := stratumtest.NewPool(stratumtest.PoolOptions{
			Name: p.name, Addr: p.addr, ShareBits: 8, JobInterval: 2 * time.Second, CleanEvery: 1 << 30, VersionMask: 0x1fffe000,
		})
		if err != nil {
			return fmt.Errorf("%s pool: %w", p.name, err)
		}
		defer pool.Close()
		fmt.Fprintf(out, "A simulated %s pool listens at %s.\n", p.name, pool.Addr())
	}
	if o.switcher == "" {
		<-ctx.Done()
		return nil
	}
	var workers []string
	for _, account := range strings.Split(o.accounts, ",") {
		fmt.Fprintf(out, "Miners %s.rig1 to %s.rig%d connect to %s.\n", account, account, o.miners, o.switcher)
		for i := range o.miners {
			workers = append(workers, fmt.Sprintf("%s.rig%d", account, i+1))
		}
	}
	crew := make([]*stratumtest.Miner, len(workers))
	defer func() {
		for _, m := range crew {
			if m != nil {
				m.Close()
			}
		}
	}()
	tick := time.NewTicker(time.Second / 4)
	defer tick.Stop()
	var printed string
	for {
		connect(crew, workers, o.switcher)
		if now := situation(crew); now != printed {
			printed = now
			fmt.Fprintf(out, "%s  %s\n", time.Now().Format(time.TimeOnly), now)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// connect replaces the miners that have no connection, because real miners reconnect too.
func connect(crew []*stratumtest.Miner, workers []string, switcher string) {
	for i, m := range crew {
		if m != nil {
			select {
			case <-m.Done():
				m.Close()
			default:
				continue
			}
		}
		crew[i] = nil
		m, err := stratumtest.NewMiner(stratumtest.MinerOptions{
			Addr: switcher, Worker: workers[i], Configure: 0x1fffe000, Rate: 2,
		})
		if err == nil {
			crew[i] = m
		}
	}
}

// situation describes in words where the miners are.
func situation(crew []*stratumtest.Miner) string {
	var connected, btc, bcc int
	var refused string
	for _, m := range crew {
		if m == nil {
			continue
		}
		st := m.Stats()
		if st.AuthorizeError != "" {
			refused = st.AuthorizeError
		}
		connected++
		switch st.Pool {
		case "btc":
			btc++
		case "bcc":
			bcc++
		}
	}
	switch {
	case refused != "":
		return "a miner is refused: " + refused
	case connected == 0:
		return "no miner can connect: is the switcher running?"
	}
	return fmt.Sprintf("%d miners connected, %d mine btc, %d mine bcc", connected, btc, bcc)
}
