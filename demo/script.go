package main

import (
	"context"
	"fmt"
	"time"
)

// round is one step of the story.
type round struct {
	account string
	coin    string
	outage  bool // the coin's pool is down when the order comes
}

// story begins and ends with everybody on btc, so that it can be told again.
// In the outage nobody mines at the pool that goes down: what is to be seen is
// a switch that cannot be made.
var story = []round{
	{account: "bob", coin: "bcc"},
	{account: "bob", coin: "btc"},
	{account: "alice", coin: "bcc", outage: true},
	{account: "carol", coin: "bcc"},
	{account: "alice", coin: "btc"},
	{account: "carol", coin: "btc"},
}

// play tells the story until ctx ends or the rounds are over.
func (d *demo) play(ctx context.Context) error {
	d.screen.event("%d miners of alice, bob and carol mine btc. Now coins are switched; Ctrl-C ends it.", minersPerAccount*len(d.accounts))
	d.screen.event("A switch takes from saving the file to the last miner's new job; the switcher gives editors 100 ms of that.")
	d.screen.showTable(d.table())
	for n := 0; d.rounds == 0 || n < d.rounds; n++ {
		if err := d.pause(ctx, d.interval); err != nil {
			return err
		}
		r := story[n%len(story)]
		play := d.playSwitch
		if r.outage {
			play = d.playOutage
		}
		if err := play(ctx, d.account(r.account), r.coin); err != nil {
			return err
		}
		d.switches++
		d.screen.showTable(d.table())
	}
	// Shares of the last switch's old pool are still to be answered.
	return d.pause(ctx, min(d.interval, time.Second))
}

func (d *demo) account(name string) *account {
	for _, a := range d.accounts {
		if a.name == name {
			return a
		}
	}
	panic("demo: no account " + name)
}

// order writes the coin file and returns when that was.
func (d *demo) order(a *account, coin string) (time.Time, error) {
	a.coin, a.switching, a.took = coin, true, 0
	at := time.Now()
	return at, d.writeCoins()
}

// awaitMove waits until the account's miners have followed an order.
func (d *demo) awaitMove(ctx context.Context, a *account, ordered time.Time) error {
	what := fmt.Sprintf("%s's miners on %s", a.name, a.coin)
	if err := d.until(ctx, switchLimit, what, func() bool { return a.allOn(a.coin) }); err != nil {
		return err
	}
	a.switching, a.took = false, a.arrived(a.coin).Sub(ordered)
	return nil
}

func (d *demo) playSwitch(ctx context.Context, a *account, coin string) error {
	d.screen.event("%s shall mine %s: the coin file is saved.", a.name, coin)
	ordered, err := d.order(a, coin)
	if err != nil {
		return err
	}
	if err := d.awaitMove(ctx, a, ordered); err != nil {
		return err
	}
	d.screen.event("  All %d miners of %s have a job of %s after %d ms. None of them had to reconnect.",
		minersPerAccount, a.name, coin, a.took.Milliseconds())
	return nil
}

func (d *demo) playOutage(ctx context.Context, a *account, coin string) error {
	from := a.coin
	d.screen.event("Something goes wrong: the %s pool goes down. Nobody mines there at the moment.", coin)
	d.bcc.Close()
	d.bccDown = true
	d.screen.event("%s shall mine %s, although it is down: the coin file is saved.", a.name, coin)
	ordered, err := d.order(a, coin)
	if err != nil {
		return err
	}
	if err := d.pause(ctx, d.outage); err != nil {
		return err
	}
	if !a.allOn(from) {
		return fmt.Errorf("%s's miners left %s for a pool that is down", a.name, from)
	}
	d.screen.event("  The switcher cannot reach it, so %s's miners stay on %s and lose nothing.", a.name, from)
	d.screen.showTable(d.table())

	d.screen.event("The %s pool is back.", coin)
	if err := d.bcc.Restart(); err != nil {
		return err
	}
	back := time.Now()
	d.bccDown = false
	if err := d.awaitMove(ctx, a, ordered); err != nil {
		return err
	}
	d.screen.event("  The switcher kept trying: all miners of %s are on %s, %d ms after it came back.",
		a.name, coin, a.arrived(coin).Sub(back).Milliseconds())
	return nil
}
