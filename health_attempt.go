package main

import (
	"slices"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// evidence says how a try to get a pool link failed, or how a link ended before it
// was stable.
type evidence uint8

const (
	// evidenceMachine means that this machine had no descriptors or buffers
	// (EMFILE, ENFILE, ENOBUFS, ENOMEM).
	evidenceMachine evidence = iota
	// evidencePorts means that all local ports for the address were in use.
	evidencePorts
	// evidenceSession means that the pool works but cannot serve this session: its
	// extranonce has another size, or it does not accept agents.
	evidenceSession
	// evidenceConnect means that the connection was refused, or was not
	// established in time.
	evidenceConnect
	// evidenceSubscribe means that the pool closed the connection or was silent
	// before it answered mining.subscribe.
	evidenceSubscribe
	// evidenceSubscribeError means that the pool answered mining.subscribe with an
	// error.
	evidenceSubscribeError
	// evidenceExtranonce means that the pool gave another extranonce than the
	// session's, although it has to take that one.
	evidenceExtranonce
	// evidenceRefused means that the pool refused mining.authorize.
	evidenceRefused
	// evidenceAuthorize means that the pool closed the connection or was silent
	// before it answered mining.authorize.
	evidenceAuthorize
	// evidenceNoJob means that the pool sent no job in time after the
	// authorization.
	evidenceNoJob
	// evidenceUnstable means that the link was lost before it was stable.
	evidenceUnstable
	// evidenceTry means that the pool sent lines that are not JSON, an endless line,
	// client.reconnect, or a job that cannot be translated. This proves nothing about
	// anybody.
	evidenceTry
	// evidenceTunnel means that the tunnel process, which handles TLS, has ended or is at
	// its limits.
	evidenceTunnel
	evidenceKinds
)

var evidenceNames = [evidenceKinds]string{
	"machine", "local_ports", "session", "connect", "subscribe", "subscribe_error", "extranonce",
	"worker_refused", "authorize", "no_job", "unstable", "handshake", "tunnel",
}

func (e evidence) String() string { return evidenceNames[e] }

// blame says what a failure is held against.
type blame uint8

const (
	blameNobody blame = iota
	blameMachine
	blameSession
	blameWorker
	blameAccount
	blameUserAgent
	blameAddress
	blames
)

var blameNames = [blames]string{"nobody", "machine", "session", "worker", "account", "user_agent", "address"}

func (b blame) String() string { return blameNames[b] }

// finding is what health concluded from a failure.
type finding struct {
	blame    blame
	takenOut bool // the failure has taken the address out
	logDue   bool // the shortage should be logged now
}

// attempt is one try to get a link, and then that link until it is stable. It
// belongs to the session, which ends it with stable, failed or abandon.
type attempt struct {
	at     *endpoint
	dialer dialer
	probe  probeClass
	listed bool // in the endpoint's trials

	// Times count from health.began, because a Duration takes a third of a time.Time.
	beganAfter time.Duration
	readyAfter time.Duration

	next, prev *attempt // in the endpoint's trials
}

func (a *attempt) health() *health { return a.at.health }

func (a *attempt) began() time.Time { return a.health().began.Add(a.beganAfter) }

func (a *attempt) readyAt() time.Time { return a.health().began.Add(a.readyAfter) }

// connected records that the address has accepted the connection.
func (a *attempt) connected() {
	h := a.health()
	h.mu.Lock()
	defer h.mu.Unlock()
	a.at.refusals.reset()
	a.at.connectedAt = h.now()
	a.at.ports.end()
	h.machine.end()
}

// subscribed records that the pool has accepted the user agent.
func (a *attempt) subscribed() {
	h, e := a.health(), a.at
	h.mu.Lock()
	defer h.mu.Unlock()
	e.unsubscribed.reset()
	h.records.forget(recordKey{e, recordUserAgent, a.dialer.userAgent})
	if i := slices.Index(e.userAgents, a.dialer.userAgent); i >= 0 {
		e.userAgents = append(slices.Delete(e.userAgents, i, i+1), a.dialer.userAgent)
		return
	}
	if len(e.userAgents) == maxUserAgents {
		e.userAgents = slices.Delete(e.userAgents, 0, 1)
	}
	e.userAgents = append(e.userAgents, a.dialer.userAgent)
}

// ready records that the link is in use. It reports whether the address was out
// until now.
func (a *attempt) ready() (back bool) {
	h, e := a.health(), a.at
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	a.readyAfter = now.Sub(h.began)
	a.endProbe()
	e.readyAt = now
	e.trials.add(a)
	e.jobless.reset()
	e.byAccount.reset()
	e.byWorker.reset()
	if r := h.records.get(recordKey{e, recordWorker, a.dialer.worker}, now); r != nil {
		r.unserved, r.refused = time.Time{}, time.Time{}
	}
	if r := h.records.get(recordKey{e, recordAccount, a.dialer.account.name}, now); r != nil {
		r.row.reset()
		r.suspect = false
	}
	back = e.breaker.close()
	if a.dialer.session {
		e.tookAt = now
		e.mismatches.reset()
		back = e.mismatch.close() || back
	}
	return back
}

// mayBeStable reports whether the link has lasted long enough to be stable.
func (a *attempt) mayBeStable() bool { return a.at.health.now().Sub(a.readyAt()) >= stableAfter }

// stable records that the link is stable. accepted means that a share was accepted just
// now. That puts the address back in use, as a link that becomes ready does, because
// miners whose links ended early may have taken the address out meanwhile. stable reports
// whether it has put the address back. From then on, the session reports the link's end
// to health.stableEnded.
func (a *attempt) stable(accepted bool) (back bool) {
	h, e := a.health(), a.at
	h.mu.Lock()
	defer h.mu.Unlock()
	a.endTrial()
	if readyAt := a.readyAt(); readyAt.After(e.stableReadyAt) {
		e.stableReadyAt = readyAt
	}
	e.heardAt.Store(h.moment(h.now()))
	e.disconnects.reset()
	e.disconnectsByWorker.reset()
	e.outForDisconnects = false
	e.breaker.forgetPauses()
	e.mismatch.forgetPauses()
	h.records.forget(recordKey{e, recordWorker, a.dialer.worker})
	h.records.forget(recordKey{e, recordAccount, a.dialer.account.name})
	a.dialer.account.stableAt.add(e, 1)
	e.stable++
	return accepted && e.breaker.close()
}

// stableEnded records the end of a stable link. byPool means that the pool ended
// it.
func (h *health) stableEnded(account *subAccount, e *endpoint, byPool bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	account.stableAt.add(e, -1)
	e.stable--
	e.sockets--
	if byPool {
		e.lostAt = h.now()
	}
}

// stableResumed records a link that was stable in the previous process. session means
// that the pool has taken the session's extranonce.
func (h *health) stableResumed(account *subAccount, e *endpoint, session bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if session {
		e.tookAt = h.now()
	}
	account.stableAt.add(e, 1)
	e.stable++
	e.sockets++
}

// abandon ends the try, or the link that is not stable yet, because the session has
// decided so. This proves nothing about the pool.
func (a *attempt) abandon() {
	a.at.health.mu.Lock()
	defer a.at.health.mu.Unlock()
	a.endProbe()
	a.endTrial()
	a.at.sockets--
}

func (a *attempt) endTrial() {
	if a.listed {
		a.at.trials.remove(a)
	}
}

func (a *attempt) endProbe() {
	a.at.breaker.probeEnds(a.probe, a.dialer.returning)
	a.probe = probeNone
}

// failed ends the try, or the link that was not stable yet, and returns what
// that proves. answer is the pool's answer for evidenceSubscribeError,
// otherwise nil.
func (a *attempt) failed(ev evidence, answer *stratum.Response) finding {
	h, e := a.health(), a.at
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	probe := a.probe
	a.endProbe()
	a.endTrial()
	e.sockets--
	f := a.judge(ev, answer, now)
	if e.breaker.isOpen && probe != probeNone && probe != probeSuspect && f.blame != blameMachine && !ev.mayServeOthers() &&
		(ev != evidenceAuthorize || a.dialer.served) {
		// While an address is out, one failed probe counts for everybody. Only if
		// the pool may never have accepted this worker does it take a row of
		// failures. isOpen is checked because others may have closed the breaker
		// meanwhile, and because a probe may have been for the extranonce only.
		a.trip(ev, now)
	}
	return f
}

// idle records that a link has received no job for longer than limit. If no link to the
// address has received any, the address is taken out. idle reports whether that was done
// just now.
func (h *health) idle(e *endpoint, limit time.Duration) (takenOut bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	if at := e.jobAt.Load(); at > 0 && h.moment(now)-at < int64(limit) {
		return false
	}
	e.outlasts = 0
	return e.breaker.trip(now, breakerPauseSilent, standingAll)
}
