package main

import (
	"container/list"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

const (
	maxHealthRecords = 10_000
	recordMemory     = 10 * time.Minute // how long a record is kept after the last failure

	// recordPauseFirst and recordPauseMost bound the pause of a worker, or of a
	// user agent, at an address where its links fail. It doubles.
	recordPauseFirst = time.Second
	recordPauseMost  = 10 * time.Minute

	// newMinerPauseMost bounds how long a worker without another address waits
	// before it may try again on a new connection.
	newMinerPauseMost = 10 * time.Second

	// userAgentTryEvery is the least time between two tries of established miners after
	// the pause of their user agent. A farm has thousands with the same one, which must
	// not leave their backup together for an address that may still fail.
	userAgentTryEvery = 250 * time.Millisecond

	// suspectMemory is how long after a failure a worker waits behind others.
	suspectMemory = time.Minute
)

// recordKind says what a healthRecord is about.
type recordKind uint8

const (
	recordWorker recordKind = iota
	recordAccount
	recordUserAgent
	recordSize // a worker whose connection needs a larger extranonce2
)

type recordKey struct {
	at   *endpoint
	kind recordKind
	name string // the worker with its account, the account, or the user agent
}

// healthRecord is what is remembered of a worker, an account or a user agent
// that failed at an address.
type healthRecord struct {
	key    recordKey
	failed time.Time // when it last failed
	pause  time.Duration
	until  time.Time // end of the pause

	// unserved is when a try last failed before its link was ready; zero if a link
	// has been ready since. A worker that lost a ready link is not suspect.
	unserved       time.Time
	refused        time.Time // workers: the last refusal, if no link has been ready since
	disconnectedAt time.Time // workers: when a link was last lost before it was stable

	tooLarge int8 // sizes: the least size of extranonce2 that the worker needed and did not get

	row     failureRow        // accounts: different workers that failed
	suspect bool              // accounts: a full row of workers failed
	answer  *stratum.Response // user agents: the pool's error to mining.subscribe, if it gave one
	tried   time.Time         // user agents: when a miner with it last tried
}

// fail records the failure of a try that began at began. If several tries were under
// way at the same time, their failures double the pause only once.
func (r *healthRecord) fail(began, now time.Time) {
	if r.pause == 0 || began.After(r.failed) {
		r.pause = min(max(2*r.pause, recordPauseFirst), recordPauseMost)
		r.until = now.Add(r.pause)
	}
	r.failed = now
}

// newMinerMayTry reports whether a miner with a new connection may try. It need not wait
// for the end of a long pause.
func (r *healthRecord) newMinerMayTry(now time.Time) bool {
	return !now.Before(r.until) || now.Sub(r.failed) >= min(r.pause, newMinerPauseMost)
}

// recordBook keeps the latest maxHealthRecords records, the oldest last. It has no lock
// of its own; health.mu guards it.
type recordBook struct {
	byKey map[recordKey]*list.Element
	order list.List
}

// get returns a record, or nil if nothing is remembered.
func (b *recordBook) get(key recordKey, now time.Time) *healthRecord {
	at := b.byKey[key]
	if at == nil {
		return nil
	}
	r := at.Value.(*healthRecord)
	if now.Sub(r.failed) > recordMemory {
		b.remove(at)
		return nil
	}
	return r
}

// touch returns a record and creates it if needed.
func (b *recordBook) touch(key recordKey, now time.Time) *healthRecord {
	b.expire(now)
	if at := b.byKey[key]; at != nil {
		b.order.MoveToFront(at)
		return at.Value.(*healthRecord)
	}
	if b.byKey == nil {
		b.byKey = make(map[recordKey]*list.Element)
	}
	if b.order.Len() >= maxHealthRecords {
		b.remove(b.order.Back())
	}
	r := &healthRecord{key: key, failed: now}
	b.byKey[key] = b.order.PushFront(r)
	return r
}

func (b *recordBook) forget(key recordKey) {
	if at := b.byKey[key]; at != nil {
		b.remove(at)
	}
}

func (b *recordBook) expire(now time.Time) {
	for at := b.order.Back(); at != nil && now.Sub(at.Value.(*healthRecord).failed) > recordMemory; at = b.order.Back() {
		b.remove(at)
	}
}

func (b *recordBook) remove(at *list.Element) {
	delete(b.byKey, at.Value.(*healthRecord).key)
	b.order.Remove(at)
}
