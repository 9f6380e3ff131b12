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
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testport"
)

const (
	minersPerAccount = 7
	sharesPerSecond  = 10 // of each sub-account

	// startLimit and switchLimit are far longer than a start or a switch takes. When they
	// have passed, something is wrong.
	startLimit  = 20 * time.Second
	switchLimit = 20 * time.Second
	// backLimit is how long miners may take to return to a pool that is back. The
	// switcher tries the pool every few seconds.
	backLimit    = 30 * time.Second
	refreshEvery = 100 * time.Millisecond
)

// demo owns everything that runs. Only one goroutine uses it.
type demo struct {
	options
	screen *screen
	dir    string // for the daemon, its configuration and the coin file
	began  time.Time
	parent int // the ID of the parent process at the start

	btc, backup, bcc *site // backup is the backup address of coin btc
	daemon           *daemon
	accounts         []*account
	switches         int
	outages          int
	upgrades         int

	// The switcher is not to blame for shares that are lost with a pool, as long as it
	// answers them.
	failing    bool   // there is an outage now
	lostBefore uint64 // lostAnswers when the outage began
	lost       uint64 // shares lost in the outages that have ended
}

// account is one sub-account and its miners.
type account struct {
	name      string
	coin      string // in the coin file
	fleet     *stratumtest.Fleet
	switching bool
	took      time.Duration // how long the last switch took; 0 if there was none
}

// start starts the pools, the daemon and the miners.
func (d *demo) start(ctx context.Context) error {
	d.parent = os.Getppid()
	d.screen.event("Building the switcher, in two versions: %s and %s ...", versions[0], versions[1])
	for _, version := range versions {
		if err := buildDaemon(ctx, d.dir, version); err != nil {
			return err
		}
	}
	for _, s := range []struct {
		site **site
		name string
	}{{&d.btc, "btc"}, {&d.backup, "btc-backup"}, {&d.bcc, "bcc"}} {
		var err error
		if *s.site, err = newSite(s.name); err != nil {
			return err
		}
	}
	d.screen.event("Simulated pools that check each share's work: btc at %s, its backup at %s, bcc at %s.",
		d.btc.Addr(), d.backup.Addr(), d.bcc.Addr())

	for _, name := range []string{"alice", "bob", "carol"} {
		d.accounts = append(d.accounts, &account{name: name, coin: "btc"})
	}
	if err := d.writeCoins(); err != nil {
		return err
	}
	page, err := testport.Addr()
	if err != nil {
		return err
	}
	config, err := d.writeConfig(page)
	if err != nil {
		return err
	}
	if d.daemon, err = startDaemon(d.dir, config); err != nil {
		return err
	}
	addr, err := d.daemon.waitListening(ctx, startLimit)
	if err != nil {
		return err
	}
	d.screen.event("The switcher listens at %s (process %d). %s has the coin of each sub-account.",
		addr, d.daemon.PID(), filepath.Base(d.coinFile()))
	d.screen.event("Its status page is http://%s/ as long as the demo runs.", page)

	for _, a := range d.accounts {
		a.fleet = stratumtest.NewFleet(stratumtest.FleetOptions{
			N:               minersPerAccount,
			Addr:            addr,
			WorkerName:      func(i int) string { return fmt.Sprintf("%s.rig%d", a.name, i+1) },
			SharesPerSecond: sharesPerSecond,
			Miner: stratumtest.MinerOptions{
				Configure:  0x1fffe000,
				LateShares: 1, // each miner has one share on its way when a switch comes
			},
		})
	}
	return d.until(ctx, startLimit, "all miners mining", func() bool {
		for _, a := range d.accounts {
			if !a.allAt(a.coin) {
				return false
			}
		}
		return true
	})
}

func (d *demo) coinFile() string { return filepath.Join(d.dir, "coins.json") }

// writeCoins replaces the coin file with a new one, as editors do.
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

func (d *demo) writeConfig(page string) (path string, err error) {
	text, err := json.MarshalIndent(map[string]any{
		"ServerID":            1,
		"ChainType":           "bitcoin",
		"ListenAddr":          "127.0.0.1:0",
		"CoinFile":            d.coinFile(),
		"EnableHTTPDebug":     true,
		"HTTPDebugListenAddr": page,
		"StratumServerMap": map[string]any{
			"btc": map[string]any{"URL": d.btc.Addr(), "BackupURLs": []string{d.backup.Addr()}},
			"bcc": map[string]any{"URL": d.bcc.Addr()},
		},
	}, "", "    ")
	if err != nil {
		return "", err
	}
	path = filepath.Join(d.dir, "config.json")
	return path, os.WriteFile(path, append(text, '\n'), 0o600)
}

// allAt reports whether all miners of the account have a job from the pool.
func (a *account) allAt(pool string) bool {
	return a.fleet.Stats().ByPool[pool] == minersPerAccount
}

// arrived returns when the last miner got its first job from the pool.
func (a *account) arrived(pool string) time.Time {
	var last time.Time
	for _, t := range a.fleet.Moved(pool) {
		if t.After(last) {
			last = t
		}
	}
	return last
}

var errOrphaned = errors.New("the process that started the demo has ended")

// until refreshes the screen until condition is true. It returns an error if that takes
// longer than limit.
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

// wait refreshes the screen for a while.
func (d *demo) wait(ctx context.Context, length time.Duration) error {
	end := time.Now().Add(length)
	return d.until(ctx, length+time.Minute, "end of a pause", func() bool { return !time.Now().Before(end) })
}

// close stops everything. The miners come first, so that none loses its connection.
func (d *demo) close() {
	for _, a := range d.accounts {
		if a.fleet != nil {
			a.fleet.Close()
		}
	}
	if d.daemon != nil {
		d.daemon.close()
	}
	for _, s := range []*site{d.btc, d.backup, d.bcc} {
		if s != nil {
			s.Close()
		}
	}
}
