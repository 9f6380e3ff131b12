package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

const (
	minersPerAccount = 7
	sharesPerSecond  = 10 // of each sub-account

	// startLimit and switchLimit are far more than it takes; after them
	// something is wrong.
	startLimit  = 20 * time.Second
	switchLimit = 20 * time.Second
	// answerLimit is for the last shares' answers at the end.
	answerLimit = 3 * time.Second

	refreshEvery = 100 * time.Millisecond
)

// demo has everything that runs. It is used by one goroutine.
type demo struct {
	options
	screen *screen
	dir    string // for the daemon, its configuration and the coin file
	began  time.Time
	parent int

	btc, bcc *stratumtest.Pool
	bccDown  bool
	daemon   *daemon
	accounts []*account
	switches int
}

// account is one sub-account and its miners.
type account struct {
	name      string
	coin      string // in the coin file
	fleet     *stratumtest.Fleet
	switching bool
	took      time.Duration // by the last switch; 0: there was none
}

// start gets pools, daemon and miners going.
func (d *demo) start(ctx context.Context) error {
	d.parent = os.Getppid()
	d.screen.event("Building the switcher ...")
	binary, err := buildDaemon(ctx, d.dir)
	if err != nil {
		return err
	}
	if d.btc, err = newPool("btc"); err != nil {
		return err
	}
	if d.bcc, err = newPool("bcc"); err != nil {
		return err
	}
	d.screen.event("Two simulated pools: btc at %s, bcc at %s. They check every share's work.", d.btc.Addr(), d.bcc.Addr())

	for _, name := range []string{"alice", "bob", "carol"} {
		d.accounts = append(d.accounts, &account{name: name, coin: "btc"})
	}
	if err := d.writeCoins(); err != nil {
		return err
	}
	config, err := d.writeConfig()
	if err != nil {
		return err
	}
	if d.daemon, err = startDaemon(binary, config); err != nil {
		return err
	}
	addr, err := d.daemon.waitListening(ctx, startLimit)
	if err != nil {
		return err
	}
	d.screen.event("The switcher listens at %s (process %d). The coin of each sub-account stands in %s.",
		addr, d.daemon.PID(), filepath.Base(d.coinFile()))

	for _, a := range d.accounts {
		a.fleet = stratumtest.NewFleet(stratumtest.FleetOptions{
			N:               minersPerAccount,
			Addr:            addr,
			WorkerName:      func(i int) string { return fmt.Sprintf("%s.rig%d", a.name, i+1) },
			SharesPerSecond: sharesPerSecond,
			Miner: stratumtest.MinerOptions{
				Configure:  0x1fffe000,
				LateShares: 1, // each has one share on its way when a switch comes
			},
		})
	}
	return d.until(ctx, startLimit, "all miners mining", func() bool {
		for _, a := range d.accounts {
			if !a.allOn(a.coin) {
				return false
			}
		}
		return true
	})
}

// newPool starts a pool. Its jobs never make each other stale, so that every
// refused share would be the switcher's doing.
func newPool(name string) (*stratumtest.Pool, error) {
	return stratumtest.NewPool(stratumtest.PoolOptions{
		Name:        name,
		ShareBits:   8,
		JobInterval: 2 * time.Second,
		CleanEvery:  1 << 30,
		VersionMask: 0x1fffe000,
	})
}

func (d *demo) coinFile() string { return filepath.Join(d.dir, "coins.json") }

// writeCoins puts a new coin file in the place of the old one, as editors do.
func (d *demo) writeCoins() error {
	coins := make(map[string]string)
	for _, a := range d.accounts {
		coins[a.name] = a.coin
	}
	text, err := json.MarshalIndent(coins, "", "    ")
	if err != nil {
		return err
	}
	next := d.coinFile() + ".new"
	if err := os.WriteFile(next, append(text, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(next, d.coinFile())
}

func (d *demo) writeConfig() (path string, err error) {
	text, err := json.MarshalIndent(map[string]any{
		"ServerID":   1,
		"ChainType":  "bitcoin",
		"ListenAddr": "127.0.0.1:0",
		"CoinFile":   d.coinFile(),
		"StratumServerMap": map[string]any{
			"btc": map[string]string{"URL": d.btc.Addr()},
			"bcc": map[string]string{"URL": d.bcc.Addr()},
		},
	}, "", "    ")
	if err != nil {
		return "", err
	}
	path = filepath.Join(d.dir, "config.json")
	return path, os.WriteFile(path, append(text, '\n'), 0o600)
}

// allOn says whether all miners of the account have a job of one pool.
func (a *account) allOn(coin string) bool {
	return a.fleet.Stats().ByPool[coin] == minersPerAccount
}

// arrived is when the last miner got its first job of the pool it is with.
func (a *account) arrived(coin string) time.Time {
	var last time.Time
	for _, t := range a.fleet.Moved(coin) {
		if t.After(last) {
			last = t
		}
	}
	return last
}

var errOrphaned = errors.New("the process that started the demo is gone")

// until refreshes the screen until condition holds.
func (d *demo) until(ctx context.Context, limit time.Duration, what string, condition func() bool) error {
	tick := time.NewTicker(refreshEvery)
	defer tick.Stop()
	for end := time.Now().Add(limit); ; {
		done := condition()
		if err := d.screen.refresh(d.table()); err != nil {
			return err
		}
		if done {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("not within %v: %s; the switcher's log ends with\n%s", limit, what, d.daemon.logTail())
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-d.daemon.Ended:
			return d.daemon.unexpectedEnd()
		case <-tick.C:
			// "go run" does not pass on the signal that kills it.
			if os.Getppid() != d.parent {
				return errOrphaned
			}
		}
	}
}

// pause refreshes the screen for a while.
func (d *demo) pause(ctx context.Context, length time.Duration) error {
	end := time.Now().Add(length)
	return d.until(ctx, length+time.Minute, "end of a pause", func() bool { return !time.Now().Before(end) })
}

// verdict waits for the last answers, or for the miners to notice that the
// switcher has ended, and says whether any of them has a reason to complain.
func (d *demo) verdict() error {
	ctx, cancel := context.WithTimeout(context.Background(), answerLimit)
	defer cancel()
	var sum stratumtest.FleetStats
	var miners int
	var details []string
	for _, a := range d.accounts {
		a.fleet.SetRate(0)
	}
	for _, a := range d.accounts {
		// What never comes is counted below.
		_ = a.fleet.WaitFor(ctx, func(s stratumtest.FleetStats) bool {
			select {
			case <-d.daemon.Ended:
				return s.Disconnected == s.Miners // answers come no more, but all have to notice
			default:
				return s.Unanswered == 0
			}
		})
		s := a.fleet.Stats()
		miners += s.Miners
		sum.Accepted += s.Accepted
		sum.Rejected += s.Rejected
		sum.Unanswered += s.Unanswered
		sum.Disconnected += s.Disconnected + s.DialErrors
		sum.Violations += s.Violations
		details = append(details, s.SomeViolations...)
	}
	d.screen.refresh(d.table())
	d.screen.event("In %v: %d switches, %d miners, %d shares accepted, %d refused, %d never answered, %d connections lost.",
		time.Since(d.began).Round(time.Second), d.switches, miners, sum.Accepted, sum.Rejected, sum.Unanswered, sum.Disconnected)
	d.screen.finish(d.table())
	if sum.Rejected+sum.Unanswered+sum.Violations == 0 && sum.Disconnected == 0 {
		return nil
	}
	return fmt.Errorf("%d connections lost, %d shares refused, %d never answered, %d surprises for the miners %q; the switcher's log ends with\n%s",
		sum.Disconnected, sum.Rejected, sum.Unanswered, sum.Violations, details, d.daemon.logTail())
}

// close ends all that runs, in the order in which nobody complains.
func (d *demo) close() {
	for _, a := range d.accounts {
		if a.fleet != nil {
			a.fleet.Close()
		}
	}
	if d.daemon != nil {
		d.daemon.close()
	}
	for _, p := range []*stratumtest.Pool{d.btc, d.bcc} {
		if p != nil {
			p.Close()
		}
	}
}
