package main

import (
	"slices"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// The judging of a failed attempt: what it is held against, and whether its address is
// taken out.

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
// connection and then ended the try, it may dislike only this miner. The pause then does not
// apply to miners that it has more reason to welcome. trip reports whether the address was
// in use until now.
func (a *attempt) trip(ev evidence, now time.Time) (opened bool) {
	if ev != evidenceUnstable {
		a.at.outlasts = 0
	}
	failed := a.dialer.standing()
	switch {
	case !ev.mayConcernMinerOnly():
		failed = standingAll
	case ev == evidenceUnstable:
		failed |= standingReturning // the pool accepted the worker before it ended the link
	}
	return a.at.breaker.trip(now, pauseMost(ev), failed)
}

// mayConcernMinerOnly reports whether the pool accepted the connection before the try
// failed, so that it may dislike only this miner.
func (e evidence) mayConcernMinerOnly() bool {
	switch e {
	case evidenceSubscribe, evidenceSubscribeError, evidenceAuthorize, evidenceNoJob, evidenceUnstable, evidenceTry:
		return true
	}
	return false
}

func pauseMost(ev evidence) time.Duration {
	if ev == evidenceUnstable {
		return breakerPauseDisconnects
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
	serves := !e.tookAt.IsZero() && (e.stable > 0 || e.tookAt.After(e.lostAt) && e.tookAt.After(e.disconnectedAt))
	if serves && !e.mismatch.isOpen {
		h.remember(recordWorker, e, entry.worker, a.began(), now)
		e.mismatches.add(now, entry, sameWorkerFailed)
		if row := &e.mismatches; row.n < breakerFailures || h.faresWell(e, row.began(), now, true, true) {
			return finding{blame: blameWorker}
		}
	}
	e.mismatches.reset()
	return finding{blameAddress, e.mismatch.trip(now, breakerPauseDisconnects, standingAll), false}
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
	r.unserved, r.disconnectedAt = time.Time{}, now
	e.disconnectedAt = now
	if a.began().Before(e.lostAt) {
		// The pool may have ended all its links at once, this one among them.
		return finding{blame: blameWorker}
	}
	entry.lasted = now.Sub(a.readyAt())
	e.disconnects.add(now, entry, sameAccountFailed)
	e.disconnectsByWorker.add(now, entry, sameWorkerFailed)
	f := finding{blame: blameWorker}
	if row := h.decisive(&e.disconnects, &e.disconnectsByWorker); row.n >= breakerFailures && !h.faresWell(e, row.began(), now, false, true) {
		outlasts := max(outlastLeast, outlastTimes*row.lasted())
		if e.hasTrialOlderThan(outlasts, now) {
			return f
		}
		e.disconnects.reset()
		e.disconnectsByWorker.reset()
		e.outForDisconnects = true
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
	if ready && e.readyAt.After(e.lostAt) && e.readyAt.After(e.disconnectedAt) && (e.readyAt.After(since) || now.Sub(e.readyAt) < readyCounts) {
		return true
	}
	return e.heardAt.Load() > h.moment(since) || e.stableReadyAt.After(since)
}
