package main

import (
	"context"
	"fmt"
	"time"
)

// play plays the demo as often as requested, or until ctx ends. At the beginning and at
// the end, all miners are at btc.
func (d *demo) play(ctx context.Context) error {
	d.screen.event("%d miners of alice, bob and carol mine btc. Ctrl-C ends the demo at any time.", minersPerAccount*len(d.accounts))
	bob := d.accounts[1]
	story := []func(context.Context) error{
		func(ctx context.Context) error { return d.playSwitch(ctx, bob, "bcc") },
		d.playOutage,
		d.playUpgrade,
		func(ctx context.Context) error { return d.playSwitch(ctx, bob, "btc") },
	}
	for n := 0; d.times == 0 || n < d.times; n++ {
		for _, step := range story {
			if err := d.wait(ctx, d.pause); err != nil {
				return err
			}
			d.screen.showTable(d.table())
			if err := step(ctx); err != nil {
				return err
			}
		}
	}
	// This pause lets the reader see the last switch, and its late shares be answered.
	return d.wait(ctx, d.pause)
}

// playSwitch changes a sub-account's coin.
func (d *demo) playSwitch(ctx context.Context, a *account, coin string) error {
	d.screen.event("Switch: %s is to mine %s. The coin file is saved.", a.name, coin)
	a.coin, a.switching, a.took = coin, true, 0
	ordered := time.Now()
	if err := d.writeCoins(); err != nil {
		return err
	}
	what := fmt.Sprintf("%s's miners at %s", a.name, coin)
	if err := d.until(ctx, switchLimit, what, func() bool { return a.allAt(coin) }); err != nil {
		return err
	}
	a.switching, a.took = false, a.arrived(coin).Sub(ordered)
	d.switches++
	d.screen.event("  All %d miners of %s have a job of %s after %d ms. None of them had to connect again.",
		minersPerAccount, a.name, coin, a.took.Milliseconds())
	return nil
}

// playOutage stops the btc pool while miners are at it, and starts it again.
func (d *demo) playOutage(ctx context.Context) error {
	var there []*account
	for _, a := range d.accounts {
		if a.coin == "btc" {
			there = append(there, a)
		}
	}
	miners := minersPerAccount * len(there)
	d.lostBefore, d.failing = d.lostAnswers(), true
	d.outages++
	d.screen.event("Outage: the btc pool fails, with %d miners at it.", miners)
	failed := time.Now()
	d.btc.Close()
	d.btc.down = true
	if err := d.untilAt(ctx, switchLimit, there, d.backup); err != nil {
		return err
	}
	d.screen.event("  All of them have a job of the backup after %d ms. None had to connect again.", since(failed, there, d.backup))
	if err := d.wait(ctx, d.outage); err != nil {
		return err
	}
	d.lost = d.lostWithPool()
	d.failing = false
	d.screen.event("  %d shares that were on their way were refused, because the backup does not know the failed pool's jobs.", d.lost)
	d.screen.showTable(d.table())

	d.screen.event("The btc pool is back.")
	if err := d.btc.Restart(); err != nil {
		return err
	}
	back := time.Now()
	d.btc.down = false
	if err := d.untilAt(ctx, backLimit, there, d.btc); err != nil {
		return err
	}
	d.screen.event("  The switcher has noticed that, and all %d miners are back after %d ms.", miners, since(back, there, d.btc))
	return nil
}

// untilAt waits until all miners of some sub-accounts are at a pool.
func (d *demo) untilAt(ctx context.Context, limit time.Duration, accounts []*account, s *site) error {
	return d.until(ctx, limit, "all miners at "+s.Name(), func() bool {
		for _, a := range accounts {
			if !a.allAt(s.Name()) {
				return false
			}
		}
		return true
	})
}

// since returns how many milliseconds after moment the last miner of some sub-accounts
// got its first job from a pool.
func since(moment time.Time, accounts []*account, s *site) int64 {
	var last time.Time
	for _, a := range accounts {
		if t := a.arrived(s.Name()); t.After(last) {
			last = t
		}
	}
	return last.Sub(moment).Milliseconds()
}

// playUpgrade replaces the program.
func (d *demo) playUpgrade(ctx context.Context) error {
	if !upgrades {
		d.screen.event("Upgrade: the switcher can replace its own program on Linux only.")
		return nil
	}
	d.screen.event("Upgrade: version %s takes the place of %s on the disk, and the process gets SIGUSR2.",
		versions[1-d.daemon.version], versions[d.daemon.version])
	sessions, pause, err := d.daemon.upgrade(ctx, switchLimit)
	if err != nil {
		return err
	}
	d.upgrades++
	d.screen.event("  Process %d is version %s now and has all %s connections. No miner's line waited longer than %s ms.",
		d.daemon.PID(), versions[d.daemon.version], sessions, pause)
	return nil
}
