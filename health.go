package main

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

const (
	// stableAfter is how long a link must last to count as stable. An accepted
	// share makes it stable at once.
	stableAfter = 30 * time.Second

	// faresWellWindow is how old the last sign of life of an address may be and still
	// count in its favour. A row of tries may fail within milliseconds, while a
	// healthy pool may send nothing for seconds.
	faresWellWindow = 10 * time.Second

	// quietWindow replaces faresWellWindow if the pool answers tries or ends them at
	// once. Such a pool is alive, but may send a job only once a minute.
	quietWindow = time.Minute

	// answeredWithin is the longest a try may take to count as answered. Tries
	// that the pool leaves unanswered take poolHandshakeTimeout.
	answeredWithin = poolHandshakeTimeout / 2

	// readyCounts is how long a ready link that has not been lost counts in
	// favour of an address where other tries get no answer to mining.authorize.
	readyCounts = 30 * time.Second
)

// health judges what failed pool links prove, and about whom: an address, a
// worker, an account, a user agent, this machine, or nobody. Sessions report
// their tries through attempt and ask mayDial before they dial. Its methods may
// be called from any goroutine.
//
// To health, an address is an IP and a port together with its TLS settings, because a
// refused certificate says nothing about the same port without TLS. All coins and names
// that lead to an address share what is known about it.
type health struct {
	began time.Time // start of the count of moments; see moment
	now   func() time.Time

	// lookedUp is called from another goroutine when look-ups of a name begin
	// to fail, when they work again (turned is true and err nil), or when the
	// name has other IPs. It must not block.
	lookedUp func(a *poolAddress, turned bool, err error)

	// accountsHere is how many sub-accounts have miners at this switcher. If there are
	// only a few, failures are counted by worker instead; see decisive.
	accountsHere atomic.Int64

	mu        sync.Mutex
	endpoints map[endpointKey]*endpoint
	records   recordBook
	machine   shortage // of descriptors or buffers
}

func newHealth() *health {
	return &health{began: time.Now(), now: time.Now, lookedUp: func(*poolAddress, bool, error) {}, endpoints: make(map[endpointKey]*endpoint)}
}

// moment converts a time to the form that endpoints keep: nanoseconds since began, at
// least 1. Setting the system's clock does not affect it.
func (h *health) moment(t time.Time) int64 { return max(1, int64(t.Sub(h.began))) }

// dialer describes the miner on whose behalf an address is dialled.
type dialer struct {
	account   *subAccount
	worker    string // the full name, including the account
	userAgent string
	new       bool // the miner has had no link yet
	served    bool // the miner has had a stable link, here or elsewhere
	returning bool // the miner's link was lost there, so the pool has accepted the worker
	session   bool // the coin's pool must take the session's extranonce
	needs     int8 // the size of extranonce2 that the pool has to give
}

// standing returns the miner's standing at the address that is dialled.
func (d *dialer) standing() (s standing) {
	if d.served {
		s |= standingServed
	}
	if d.returning {
		s |= standingReturning
	}
	return s
}

// obstacle is why an address may not be dialled now.
type obstacle uint8

const (
	obstacleNone      obstacle = iota
	obstacleWorker             // this worker's links fail there
	obstacleUserAgent          // this user agent's links fail there
	obstacleOut                // the address is taken out
	obstaclePorts              // no local port is free
	obstacleMachine            // no descriptor or no memory for sockets is free
)

// verdict answers whether an address may be dialled.
type verdict struct {
	obstacle obstacle
	probe    probeClass
	suspect  bool              // the account's workers fail there, so another address is better
	unproven bool              // the address was taken out for ending links, and no link there has been stable since
	refused  bool              // the pool refused the worker there lately
	answer   *stratum.Response // with obstacleUserAgent: the pool's answer, or nil
}

// mayDial judges whether d may dial an address now.
func (h *health) mayDial(d *dialer, e *endpoint) verdict {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.judge(d, e, h.now())
}

func (h *health) judge(d *dialer, e *endpoint, now time.Time) verdict {
	if !h.machine.over(now) {
		return verdict{obstacle: obstacleMachine}
	}
	if !e.ports.over(now) {
		return verdict{obstacle: obstaclePorts}
	}
	v := verdict{suspect: h.accountSuspect(d, e, now), unproven: e.outForDisconnects}
	class := h.probeClassOf(d, e, now)
	for _, b := range []*breaker{&e.breaker, &e.mismatch} {
		if b == &e.mismatch && !d.session || b == &e.breaker && e.servesSome(now) {
			continue
		}
		state := b.stateFor(d.standing(), now)
		if b == &e.breaker && state == breakerOpen && e.mayBeAsked(d, h, now) {
			state = breakerProbing
		}
		switch state {
		case breakerOpen:
			return verdict{obstacle: obstacleOut}
		case breakerProbing:
			if !e.breaker.mayProbe(class, d.returning) {
				return verdict{obstacle: obstacleOut}
			}
			v.probe = class
		}
	}
	if r := h.records.get(recordKey{e, recordWorker, d.worker}, now); r != nil {
		if now.Before(r.until) && !(d.new && r.newMinerMayTry(now)) {
			return verdict{obstacle: obstacleWorker, suspect: true}
		}
		v.refused = now.Sub(r.refused) < suspectMemory
	}
	if r := h.sizeRecord(d, e, now); r != nil && now.Before(r.until) && !(d.new && r.newMinerMayTry(now)) {
		return verdict{obstacle: obstacleWorker, suspect: true}
	}
	if r := h.records.get(recordKey{e, recordUserAgent, d.userAgent}, now); r != nil && (now.Before(r.until) || !d.new && now.Sub(r.tried) < userAgentTryEvery) {
		return verdict{obstacle: obstacleUserAgent, answer: r.answer}
	}
	return v
}

// sizeRecord returns the record of the address having given the worker too small an
// extranonce2, or nil if d needs less than the connection that failed for that. Other
// connections of the worker may be older, from when the pool gave more.
func (h *health) sizeRecord(d *dialer, e *endpoint, now time.Time) *healthRecord {
	if r := h.records.get(recordKey{e, recordSize, d.worker}, now); r != nil && d.needs >= r.tooLarge {
		return r
	}
	return nil
}

// accountSuspect reports whether several workers of the account failed there
// and none is stable.
func (h *health) accountSuspect(d *dialer, e *endpoint, now time.Time) bool {
	r := h.records.get(recordKey{e, recordAccount, d.account.name}, now)
	return r != nil && r.suspect && now.Before(r.until) && d.account.stableAt.count(e) == 0
}

// suspect reports whether the worker, or its whole account, failed there
// lately. Suspects wait behind others.
func (h *health) suspect(d *dialer, e *endpoint) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.isSuspect(d, e, h.now())
}

func (h *health) isSuspect(d *dialer, e *endpoint, now time.Time) bool {
	if r := h.sizeRecord(d, e, now); r != nil && now.Sub(r.unserved) < suspectMemory {
		return true
	}
	if r := h.records.get(recordKey{e, recordWorker, d.worker}, now); r != nil && now.Sub(r.unserved) < suspectMemory {
		return true
	}
	r := h.records.get(recordKey{e, recordAccount, d.account.name}, now)
	return r != nil && r.suspect && now.Sub(r.failed) < suspectMemory && d.account.stableAt.count(e) == 0
}

// mayBeAsked reports whether a new miner may probe before the pause is over. It may if
// the address is out because the pool ended links, and the miner has never failed there.
// Its probe proves more than one by a miner whose link was ended, because the pool may
// dislike only those miners.
func (e *endpoint) mayBeAsked(d *dialer, h *health, now time.Time) bool {
	return e.outlasts > 0 && d.new && now.Sub(e.tripped) >= breakerPauseFirst && h.records.get(recordKey{e, recordWorker, d.worker}, now) == nil
}

// wasDisconnected reports whether the address was taken out because it ended links, one of this
// worker among them. It would prove nothing new if the pool ended this worker's link once
// more.
func (h *health) wasDisconnected(d *dialer, e *endpoint, now time.Time) bool {
	r := h.records.get(recordKey{e, recordWorker, d.worker}, now)
	return e.outlasts > 0 && r != nil && now.Sub(r.disconnectedAt) < suspectMemory
}

func (h *health) probeClassOf(d *dialer, e *endpoint, now time.Time) probeClass {
	switch {
	case h.isSuspect(d, e, now) || h.wasDisconnected(d, e, now):
		return probeSuspect
	case d.new:
		return probeNew
	}
	return probeOther
}

// state returns an address's state as the status page and the metrics show it. A wrong
// extranonce counts only if session is set, which is so for coins whose pool must take
// the session's extranonce.
func (h *health) state(e *endpoint, session bool) breakerState {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	if session {
		if state := e.mismatch.state(now); state != breakerClosed {
			return state
		}
	}
	if e.servesSome(now) {
		return breakerClosed
	}
	return e.breaker.state(now)
}

// begin starts a try at an address. It returns nil if the address may not be
// dialled. override ignores the pauses of the worker and the user agent, for an
// established miner that has a pause of its own. The caller must end the attempt with
// stable, failed or abandon.
func (h *health) begin(d *dialer, e *endpoint, override bool) *attempt {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	v := h.judge(d, e, now)
	if v.obstacle != obstacleNone && !(override && v.obstacle.personal()) {
		return nil
	}
	if r := h.records.get(recordKey{e, recordUserAgent, d.userAgent}, now); r != nil {
		r.tried = now
	}
	a := &attempt{at: e, dialer: *d, beganAfter: now.Sub(h.began), probe: v.probe}
	e.breaker.probeBegins(a.probe, d.returning)
	e.sockets++
	return a
}

// personal reports whether the obstacle concerns this miner only and not the
// address.
func (o obstacle) personal() bool { return o == obstacleWorker || o == obstacleUserAgent }

// shortage is a pause that grows while this machine is out of something, such as local
// ports.
type shortage struct {
	until    time.Time // end of the pause
	pause    time.Duration
	loggedAt time.Time
}

const (
	shortagePauseFirst = 100 * time.Millisecond
	shortagePauseMost  = 5 * time.Second
	// portsPauseMost is shorter, because each link that ends gives a port back.
	portsPauseMost = time.Second
)

// over reports whether there is no shortage now.
func (s *shortage) over(now time.Time) bool { return !now.Before(s.until) }

// hit starts the next pause, unless one is running.
func (s *shortage) hit(now time.Time, most time.Duration) {
	if now.Before(s.until) {
		return
	}
	s.pause = min(max(2*s.pause, shortagePauseFirst), most)
	s.until = now.Add(s.pause)
}

func (s *shortage) end() { s.until, s.pause = time.Time{}, 0 }

// logDue reports whether the shortage should be logged again. The caller must log it
// then.
func (s *shortage) logDue(now time.Time) bool {
	if now.Sub(s.loggedAt) < alertEvery {
		return false
	}
	s.loggedAt = now
	return true
}
