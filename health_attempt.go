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
	e.kicked.reset()
	e.kickedWorker.reset()
	e.kicks = false
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
	a.at.breaker.probeEnds(a.probe)
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

// mayServeOthers reports whether a pool may well serve other miners although it ended a
// try in this way.
func (e evidence) mayServeOthers() bool {
	switch e {
	case evidenceSession, evidenceRefused, evidenceSubscribeError, evidenceExtranonce:
		return true
	}
	return false
}

// trip takes the address out, or starts its next pause. If the pool accepted the
// connection of a miner that was never served and then dropped it, the pause does not
// apply to served miners, because the pool may dislike only that miner. trip reports
// whether the address was in use until now.
func (a *attempt) trip(ev evidence, now time.Time) (opened bool) {
	if ev != evidenceUnstable {
		a.at.outlasts = 0
	}
	if !a.dialer.served && ev.mayConcernMinerOnly() {
		return a.at.breaker.tripOthers(now, pauseMost(ev))
	}
	return a.at.breaker.trip(now, pauseMost(ev))
}

// mayConcernMinerOnly reports whether the pool accepted the connection before the try
// failed, so that it may dislike only this miner.
func (e evidence) mayConcernMinerOnly() bool {
	switch e {
	case evidenceSubscribe, evidenceAuthorize, evidenceNoJob, evidenceUnstable, evidenceTry:
		return true
	}
	return false
}

func pauseMost(ev evidence) time.Duration {
	if ev == evidenceUnstable {
		return breakerPauseKicks
	}
	return breakerPauseSilent
}

func (a *attempt) judge(ev evidence, answer *stratum.Response, now time.Time) finding {
	h, e, d := a.health(), a.at, &a.dialer
	entry := failureEntry{account: d.account.name, worker: d.worker, userAgent: d.userAgent, began: a.began()}
	switch ev {
	case evidenceMachine:
		h.machine.hit(now, shortagePauseMost)
		return finding{blame: blameMachine, logDue: h.machine.logDue(now)}
	case evidencePorts:
		e.ports.hit(now, portsPauseMost)
		return finding{blame: blameMachine, logDue: e.ports.logDue(now)}
	case evidenceTunnel:
		// Only TLS is affected, so miners of pools without TLS do not have to wait.
		return finding{blame: blameMachine}
	case evidenceSession:
		tooLarge := d.needs
		if r := h.records.get(recordKey{e, recordSize, d.worker}, now); r != nil && now.Before(r.until) {
			tooLarge = min(tooLarge, r.tooLarge)
		}
		h.remember(recordSize, e, d.worker, a.began(), now).tooLarge = tooLarge
		return finding{blame: blameSession}
	case evidenceConnect:
		return a.judgeAddress(&e.refusals, ev, entry, now)
	case evidenceSubscribe, evidenceSubscribeError:
		return a.judgeSubscribe(ev, entry, answer, now)
	case evidenceExtranonce:
		return a.judgeExtranonce(entry, now)
	case evidenceRefused:
		// A refusal is an answer, so it starts no pause.
		r := h.records.touch(recordKey{e, recordWorker, d.worker}, now)
		r.failed, r.unserved, r.refused = now, now, now
		return finding{blame: blameWorker}
	case evidenceAuthorize:
		return a.judgeAuthorize(entry, now)
	case evidenceNoJob:
		h.remember(recordWorker, e, d.worker, a.began(), now)
		if e.jobAt.Load() >= h.moment(a.began()) {
			return finding{blame: blameNobody}
		}
		return a.judgeAddress(&e.jobless, ev, entry, now)
	case evidenceUnstable:
		return a.judgeUnstable(entry, now)
	}
	h.remember(recordWorker, e, d.worker, a.began(), now)
	return finding{blame: blameNobody}
}

// judgeAddress holds the failure against the address, no matter whose try failed.
func (a *attempt) judgeAddress(row *failureRow, ev evidence, entry failureEntry, now time.Time) finding {
	row.add(now, entry, func(_, _ *failureEntry) bool { return false })
	f := finding{blame: blameAddress}
	if row.count >= breakerFailures {
		f.takenOut = a.takeOut(row, ev, now)
	}
	return f
}

// takeOut opens the address's breaker because of a row of failures.
func (a *attempt) takeOut(row *failureRow, ev evidence, now time.Time) bool {
	row.reset()
	return a.trip(ev, now)
}

func (h *health) remember(kind recordKind, e *endpoint, name string, began, now time.Time) *healthRecord {
	r := h.records.touch(recordKey{e, kind, name}, now)
	r.fail(began, now)
	r.unserved = now
	return r
}

// judgeSubscribe holds the failure against the user agent first, and against
// the address if three user agents in a row, or all known ones, failed.
func (a *attempt) judgeSubscribe(ev evidence, entry failureEntry, answer *stratum.Response, now time.Time) finding {
	h, e := a.health(), a.at
	e.unsubscribed.add(now, entry, sameUserAgentFailed)
	if ev == evidenceSubscribeError {
		h.remember(recordUserAgent, e, entry.userAgent, a.began(), now).answer = answer
	} else {
		h.remember(recordWorker, e, entry.worker, a.began(), now)
		if e.unsubscribed.count >= breakerFailures {
			h.remember(recordUserAgent, e, entry.userAgent, a.began(), now)
		}
	}
	known := e.unsubscribed.n // how many user agents have failed or subscribed there
	for _, ua := range e.userAgents {
		if !slices.ContainsFunc(e.unsubscribed.entries[:e.unsubscribed.n], func(f failureEntry) bool { return f.userAgent == ua }) {
			known++
		}
	}
	if e.unsubscribed.count < breakerFailures || e.unsubscribed.n < min(breakerFailures, known) || h.faresWell(e, e.unsubscribed.began(), now, a.answeredSoon(now), a.answeredSoon(now)) {
		return finding{blame: blameUserAgent}
	}
	// The address is at fault, so the user agents are not.
	for _, f := range e.unsubscribed.entries[:e.unsubscribed.n] {
		h.records.forget(recordKey{e, recordUserAgent, f.userAgent})
	}
	return finding{blameAddress, a.takeOut(&e.unsubscribed, ev, now), false}
}

// judgeExtranonce judges a pool that gave another extranonce than the session's. This
// counts against the address at once, because most pools that do so do it to all. But a
// pool that has accepted the extranonces of other links may find that of one session in
// use, or treat one kind of miner differently. It is taken out only if this happens to
// three workers in a row while nobody fares well.
func (a *attempt) judgeExtranonce(entry failureEntry, now time.Time) finding {
	h, e := a.health(), a.at
	serves := !e.tookAt.IsZero() && (e.stable > 0 || e.tookAt.After(e.lostAt) && e.tookAt.After(e.kickedAt))
	if serves && !e.mismatch.isOpen {
		h.remember(recordWorker, e, entry.worker, a.began(), now)
		e.mismatches.add(now, entry, sameWorkerFailed)
		if row := &e.mismatches; row.n < breakerFailures || h.faresWell(e, row.began(), now, true, true) {
			return finding{blame: blameWorker}
		}
	}
	e.mismatches.reset()
	return finding{blameAddress, e.mismatch.trip(now, breakerPauseKicks), false}
}

// judgeAuthorize holds the failure against the worker, its account or the
// address.
func (a *attempt) judgeAuthorize(entry failureEntry, now time.Time) finding {
	h, e := a.health(), a.at
	known := h.records.get(recordKey{e, recordWorker, entry.worker}, now)
	repeated := known != nil && known.failed.Before(a.began())
	h.remember(recordWorker, e, entry.worker, a.began(), now)
	if repeated {
		// Another failure of the same worker says nothing new about the
		// address.
		return finding{blame: blameWorker}
	}
	if a.began().Before(e.lostAt) {
		// The pool has ended stable links since the try began, perhaps all its
		// connections at once and this one among them. Later tries show whether
		// it is out.
		return finding{blame: blameWorker}
	}
	e.byAccount.add(now, entry, sameAccountFailed)
	e.byWorker.add(now, entry, sameWorkerFailed)
	account := h.records.touch(recordKey{e, recordAccount, entry.account}, now)
	account.row.add(now, entry, sameWorkerFailed)
	account.failed = now
	f := finding{blame: blameWorker}
	if account.row.n >= breakerFailures && a.dialer.account.stableAt.count(e) == 0 {
		account.suspect = true
		account.fail(a.began(), now)
		f.blame = blameAccount
	}
	if row := h.decisive(&e.byAccount, &e.byWorker); row.n >= breakerFailures && !h.faresWell(e, row.began(), now, true, a.answeredSoon(now)) {
		e.byAccount.reset()
		e.byWorker.reset()
		f.blame, f.takenOut = blameAddress, a.takeOut(row, evidenceAuthorize, now)
	}
	return f
}

// A link shows that the pool does not end all links once it has lasted outlastLeast, and
// outlastTimes as long as the links that the pool ended. Just after a start, when no link
// is stable yet, nothing else can show it.
const (
	outlastLeast = 250 * time.Millisecond
	outlastTimes = 4
)

// judgeUnstable holds the early end of a ready link against the worker, or
// against the address if a row of others lost theirs too.
func (a *attempt) judgeUnstable(entry failureEntry, now time.Time) finding {
	h, e := a.health(), a.at
	r := h.remember(recordWorker, e, entry.worker, a.began(), now)
	r.unserved, r.kicked = time.Time{}, now
	e.kickedAt = now
	if a.began().Before(e.lostAt) {
		// The pool may have ended all its links at once, this one among them.
		return finding{blame: blameWorker}
	}
	entry.lasted = now.Sub(a.readyAt())
	e.kicked.add(now, entry, sameAccountFailed)
	e.kickedWorker.add(now, entry, sameWorkerFailed)
	f := finding{blame: blameWorker}
	if row := h.decisive(&e.kicked, &e.kickedWorker); row.n >= breakerFailures && !h.faresWell(e, row.began(), now, false, true) {
		outlasts := max(outlastLeast, outlastTimes*row.lasted())
		if e.hasTrialOlderThan(outlasts, now) {
			return f
		}
		e.kicked.reset()
		e.kickedWorker.reset()
		e.kicks = true
		f.blame, f.takenOut = blameAddress, a.takeOut(row, evidenceUnstable, now)
		if f.takenOut || e.outlasts > 0 {
			e.outlasts, e.tripped = outlasts, now
		}
	}
	return f
}

// decisive returns the row by accounts, or the row by workers if there are not
// enough accounts here to fill a row.
func (h *health) decisive(byAccount, byWorker *failureRow) *failureRow {
	if h.accountsHere.Load() < breakerFailures {
		return byWorker
	}
	return byAccount
}

// answeredSoon reports whether the pool ended the try well before its timeout.
func (a *attempt) answeredSoon(now time.Time) bool { return now.Sub(a.began()) < answeredWithin }

// faresWell reports whether others have done well at an address since a row of failures
// began. They have if a stable link has received something, or if a link got ready that
// was stable later. If ready is set, a link that is ready but not stable yet counts too,
// because the failures happened at an earlier step. If soon is set, the pool reacted to
// the tries, so it is alive, and stable links may have been quiet for longer.
func (h *health) faresWell(e *endpoint, began, now time.Time, ready, soon bool) bool {
	since, window := began, faresWellWindow
	if soon {
		window = quietWindow
	}
	if from := now.Add(-window); from.Before(since) {
		since = from
	}
	if e.stable == 0 && since.Before(e.lostAt) {
		// The links that heard something before the loss are gone. While stable
		// links remain, the loss of others says nothing about them.
		since = e.lostAt
	}
	if ready && e.readyAt.After(e.lostAt) && e.readyAt.After(e.kickedAt) && (e.readyAt.After(since) || now.Sub(e.readyAt) < readyCounts) {
		return true
	}
	return e.heardAt.Load() > h.moment(since) || e.stableReadyAt.After(since)
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
	return e.breaker.trip(now, breakerPauseSilent)
}
