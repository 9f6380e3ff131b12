package main

import (
	"fmt"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/eventfile"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/hashrate"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/journal"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/regularfile"
)

// The events of EventFile are for other programs. docs/events.md describes their
// fields. Without EventFile, no event is composed.

const (
	// eventsDrainTime is how long an upgrade waits for events to be written. The end of
	// the process, which disconnects all miners, waits for eventsEndTime.
	eventsDrainTime = logDrainTime - logFrozenTime
	eventsEndTime   = time.Second
)

// checkEventFile returns an error if the configured EventFile cannot be used. A full
// disk is not an error, because it may have room again later.
func checkEventFile(c *Config) error {
	if c.EventFile == "" {
		return nil
	}
	_, err := regularfile.InTime(regularfile.Wait, func() (struct{}, error) { return struct{}{}, eventfile.Check(c.EventFile) })
	if err != nil {
		return fmt.Errorf("EventFile %q: %w", c.EventFile, err)
	}
	return nil
}

// openEvents begins to write events. before has the counts of the former process. It
// must be called before anything that has events is started. The caller calls end,
// which closes the file, after all of that has ended.
func (m *sessionManager) openEvents(before *eventfile.State) (end func()) {
	if m.config.EventFile == "" {
		return func() {}
	}
	f := eventfile.Open(m.config.EventFile, func(err error) { m.limitedLog.Warningf("event file", "%v; events are lost", err) })
	f.Resume(before)
	m.monitor.file = f
	return func() { f.Close(eventsEndTime) }
}

// record adds an event to the file, if there is one.
func (mon *monitor) record(e eventfile.Event) { mon.file.Add(e) }

// recordReload adds the event that a file was read again, and what became of it.
func (mon *monitor) recordReload(what, detail string) {
	mon.record(eventfile.Event{Kind: eventfile.KindReload, What: what, Detail: detail})
}

// recordSwitch adds the event of a change of the coin.
func (mon *monitor) recordSwitch(key *journal.Key, miners int) {
	what := key.What
	if what == "coin changed" {
		what = "begins"
	}
	mon.record(eventfile.Event{Kind: eventfile.KindSwitch, What: what, Account: key.Account, Coin: key.Coin, To: key.To, Miners: eventfile.Number(miners)})
}

// recordMoved adds the event that the last miner has moved.
func (mon *monitor) recordMoved(account string, r *switchRun) {
	if mon.file != nil {
		mon.record(r.event(account, "moved"))
	}
}

// recordCost adds the event with a switch's cost.
func (mon *monitor) recordCost(account string, c *switchCost) {
	if mon.file == nil {
		return
	}
	e := c.event(account, "cost")
	e.Detail = c.cut
	e.Cost = &eventfile.Cost{
		Late:          make(map[string]uint64, lateEnds),
		RefusedBefore: c.lostBefore, RefusedAfter: c.lostAfter, Before: c.before.Seconds(), After: c.after.Seconds(),
	}
	for end, n := range c.lateCounts {
		e.Cost.Late[lateEnd(end).String()] = n
	}
	mon.record(e)
}

func (r *switchRun) event(account, what string) eventfile.Event {
	e := eventfile.Event{Kind: eventfile.KindSwitch, What: what, Account: account, Coin: r.from, To: r.coin, Miners: eventfile.Number(r.moved)}
	if r.took > 0 {
		e.Seconds = eventfile.Number(r.took.Seconds())
	}
	return e
}

// event returns an event about this miner.
func (s *Session) event(kind eventfile.Kind, what string) eventfile.Event {
	e := eventfile.Event{Kind: kind, What: what, Miner: s.addr.String()}
	if s.hasID {
		e.Session = fmt.Sprintf("%08x", s.id)
	}
	if s.subscription != nil {
		e.Agent = s.subscription.UserAgent
	}
	if s.auth != nil {
		e.Worker, e.Account = s.auth.name.String(), s.auth.name.Account
	}
	if s.account != nil {
		e.Account = s.account.name
	}
	if s.link != nil {
		e.Coin, e.Pool = s.link.pool.coin, s.link.where()
	}
	return e
}

func (s *Session) recordRefused(f handshakeFailure, why string) {
	if s.manager.monitor.file == nil {
		return
	}
	e := s.event(eventfile.KindRefusal, f.String())
	e.Detail = why
	s.manager.monitor.record(e)
}

// recordConnected adds the event that the miner has its first pool link.
func (s *Session) recordConnected() {
	if s.manager.monitor.file != nil {
		s.manager.monitor.record(s.event(eventfile.KindConnected, ""))
	}
}

// recordGone adds the event that a miner that had a pool link has left.
func (s *Session) recordGone(why string) {
	if s.manager.monitor.file == nil || s.link == nil {
		return
	}
	e, counted := s.event(eventfile.KindGone, ""), s.shares.Totals()
	e.Detail = why
	e.Seconds = eventfile.Number(float64(max(0, s.manager.steadyUnix()-s.since)))
	e.Totals = &eventfile.Totals{
		Submitted: uint64(counted.Submitted), Accepted: uint64(counted.Accepted), Unknown: uint64(counted.Unknown),
		Refused: make(map[string]uint64, hashrate.Refusals), Work: s.shares.Work(),
	}
	for why, n := range counted.Refused {
		e.Totals.Refused[hashrate.Refusal(why).String()] = uint64(n)
	}
	s.manager.monitor.record(e)
}
