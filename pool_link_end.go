package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"syscall"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/relay"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// refusedError means that the pool refused the worker both with and without suffix.
type refusedError struct{ answer *stratum.Response }

func (e *refusedError) Error() string {
	return fmt.Sprintf("pool refused the worker: %s", stratum.Clip(stratum.OrNull(e.answer.Error)))
}

// subscribeError means that the pool refused the user agent, or that it refuses
// everybody.
type subscribeError struct{ answer *stratum.Response }

func (e *subscribeError) Error() string {
	return fmt.Sprintf("pool refused to subscribe: %s", stratum.Clip(e.answer.Error))
}

// extranonceError means that the pool gave another extranonce than the session's,
// although it has to take that one.
type extranonceError struct{ err error }

func (e *extranonceError) Error() string { return e.err.Error() }

// notConnected ends the link because no IP is left to try. Each failed IP has
// been reported to health already.
func (k *poolLink) notConnected() {
	d := k.dial
	k.close()
	switch {
	case d.failure == nil: // no IP was dialled
		k.session.chooseAgain(k.session.linking)
	case errors.Is(d.failure, errNoLocalPort):
		k.session.linkFailed(d.failure, d.found, evidencePorts)
	case d.proof == evidenceTunnel:
		k.session.linkFailed(d.failure, d.found, evidenceTunnel)
	case d.found.blame == blameMachine:
		k.session.linkFailed(fmt.Errorf("%w: %w", errMachineIsShort, d.failure), d.found, evidenceMachine)
	default:
		k.session.linkFailed(d.failure, d.found, evidenceConnect)
	}
}

// noise handles a line that is not JSON. A banner or some junk before the answers is
// tolerated. The answer of a web server, or too much junk, ends the link.
func (k *poolLink) noise(line []byte) {
	line = bytes.Trim(line, stratum.LineJunk)
	if len(line) == 0 {
		return
	}
	if k.junk == nil {
		k.junk = bytes.Clone(line[:min(len(line), 120)])
	}
	if k.junkLines++; k.junkLines > maxJunkLines || bytes.HasPrefix(line, []byte("HTTP/")) {
		k.fail(k.lostBy(nil))
	}
}

// lostBy returns why a link that ended with err failed. If the pool sent a line
// that is not JSON, the reason is that line.
func (k *poolLink) lostBy(err error) error {
	if k.junk == nil {
		return err
	}
	return fmt.Errorf("%w: %q", errPoolNoise, stratum.Clip(k.junk))
}

// namesHost reports whether client.reconnect names where to go.
func namesHost(line []byte) bool {
	r, err := stratum.ParseRequest(line)
	if err != nil {
		return false
	}
	params := r.ParamList()
	if len(params) == 0 {
		return false
	}
	host, _ := stratum.JsonString(params[0])
	return host != ""
}

// fail ends the link and reports it to health and to the session.
func (k *poolLink) fail(err error) {
	if k.done {
		return
	}
	s := k.session
	if k.dial != nil { // no IP has connected in time
		for _, t := range k.dial.tries {
			f := t.attempt.failed(evidenceConnect, nil)
			k.dial.failure, k.dial.found, k.dial.proof = err, f, evidenceConnect
			s.manager.linkFound(k.pool, k.address, t.attempt.at, evidenceConnect, f, err)
			t.socket.Reset()
		}
		k.dial.tries = nil
		k.notConnected()
		return
	}
	ev, err := k.evidenceOf(err)
	var answer *stratum.Response
	var refused *subscribeError
	if errors.As(err, &refused) {
		answer = refused.answer
	}
	a := k.attempt
	k.attempt = nil
	f := a.failed(ev, answer)
	s.manager.linkFound(k.pool, k.address, a.at, ev, f, err)
	k.close()
	s.linkFailed(err, f, ev)
}

// evidenceOf returns how the link failed, judging by err and by what the pool had answered
// until then. The error that it returns also says at which step that was.
func (k *poolLink) evidenceOf(err error) (evidence, error) {
	var refused *refusedError
	var subscribe *subscribeError
	var extranonce *extranonceError
	switch {
	case isTunnelFault(err):
		return evidenceTunnel, err
	case errors.As(err, &refused):
		return evidenceRefused, err
	case errors.As(err, &subscribe):
		return evidenceSubscribeError, err
	case errors.As(err, &extranonce):
		return evidenceExtranonce, err
	case isOwnFault(err):
		return evidenceSession, err
	case !errors.Is(err, errPoolTimeout) && !isHangUp(err):
		return evidenceTry, err
	case k.refusal != nil && k.answer == nil:
		// The pool did answer: it refused the name without the suffix.
		return evidenceRefused, &refusedError{k.refusal}
	case k.pending&pendingSubscribe != 0:
		return evidenceSubscribe, fmt.Errorf("before mining.subscribe was answered: %w", err)
	case k.pending&pendingAuthorize != 0:
		return evidenceAuthorize, fmt.Errorf("before mining.authorize was answered: %w", err)
	case errors.Is(err, errPoolTimeout):
		return evidenceNoJob, fmt.Errorf("no job after the authorization: %w", err)
	}
	return evidenceUnstable, err
}

// isHangUp reports whether the pool has closed or reset the connection.
func isHangUp(err error) bool {
	var errno syscall.Errno
	return errors.Is(err, relay.ErrPeerClosed) || errors.Is(err, io.EOF) || errors.As(err, &errno)
}

// close ends the link without reporting that to the session.
func (k *poolLink) close() {
	k.done = true
	k.stopTimers()
	if k.dial != nil {
		k.dial.stop()
	}
	if k.attempt != nil {
		k.attempt.abandon()
		k.attempt = nil
	}
	if k.socket != nil {
		k.socket.Reset()
	}
}

func (k *poolLink) stopTimers() {
	k.session.loop.StopTimer(k.deadline)
	k.session.loop.StopTimer(k.grace)
	k.session.loop.StopTimer(k.gap)
}
