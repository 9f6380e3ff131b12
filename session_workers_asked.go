package main

import (
	"bytes"
	"encoding/json"
	"slices"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// askedWorker is the miner's mining.authorize for a further worker while no pool has
// answered it. If the session gets another link meanwhile, the new pool's answer to the
// switcher's own request for the worker becomes the miner's answer. The worker can also be
// the first one with other parameters; see changesFirstWorker. These are then not sent to
// the new pool, which knows the worker already.
type askedWorker struct {
	worker *extraWorker
	tag    stratum.LinkTag // together with id, where the request is in Session.requests
	id     []byte

	// The following fields are about the link that is being prepared.

	next   uint32            // the id of the switcher's own request for the worker; 0 if there is none
	answer *stratum.Response // the pool's answer to that request, or nil
}

const (
	// maxAsked bounds how many such requests are kept. Those beyond it get an error if
	// their link ends.
	maxAsked = 512
	// maxKeptRefusal is the length of the longest error of the next pool that is kept.
	maxKeptRefusal = 128
)

// asked returns the requests that are not answered, the oldest first.
func (s *Session) asked() []*askedWorker {
	if s.workerIndex == nil {
		return nil
	}
	return s.workerIndex.asked
}

// expectWorker records that the miner's request for w was sent on the link in use.
func (s *Session) expectWorker(w *extraWorker, wire []byte) {
	if len(s.asked()) == maxAsked || len(wire) == 0 || len(wire) > stratum.MaxRequestID {
		return
	}
	if s.workerIndex == nil {
		s.workerIndex = s.newWorkerIndex()
	}
	w.asked = &askedWorker{worker: w, tag: s.link.tag, id: bytes.Clone(wire)}
	s.workerIndex.asked = append(s.workerIndex.asked, w.asked)
}

// forget removes the request for w, if there is one.
func (x *workerIndex) forget(w *extraWorker) {
	if w.asked == nil {
		return
	}
	x.asked = slices.DeleteFunc(x.asked, func(a *askedWorker) bool { return a == w.asked })
	if w.asked = nil; len(x.asked) == 0 {
		x.asked = nil
	}
}

// askedAs returns the request that is in Session.requests under tag and id, or nil.
func (s *Session) askedAs(tag stratum.LinkTag, id []byte) *askedWorker {
	for _, a := range s.asked() {
		if a.tag == tag && bytes.Equal(a.id, id) {
			return a
		}
	}
	return nil
}

// askedAgain returns the unanswered request for the first worker, or nil.
func (s *Session) askedAgain() *askedWorker {
	for _, a := range s.asked() {
		if a.worker.name == s.auth.name {
			return a
		}
	}
	return nil
}

// workerAnswered notes that a pool has answered a mining.authorize of the miner with line.
func (s *Session) workerAnswered(tag stratum.LinkTag, id, line []byte, sc *stratum.ScannedLine) {
	a := s.askedAs(tag, id)
	if a == nil {
		return
	}
	s.workerIndex.forget(a.worker)
	if a.worker.name == s.auth.name && stratum.Consents(sc.Value(line, stratum.MemberResult), sc.Value(line, stratum.MemberError)) {
		s.auth.authorizationForm = s.loop.sharedForm(&authorizationForm{s.auth.id, a.worker.method, a.worker.rest})
	}
}

// askNext notes what the pool of the next link is asked about the worker: a request with
// this id, or nothing if the answer is known without asking. It is a no-op on nil.
func (a *askedWorker) askNext(id uint32, answer *stratum.Response) {
	if a != nil {
		a.next, a.answer = id, answer
	}
}

// accepted is the answer for a worker that the pool knows as the first one.
var accepted = &stratum.Response{Result: json.RawMessage("true")}

// refused is the answer for a worker whose pool gave no reason or a long one.
var refused = &stratum.Response{Result: json.RawMessage("false")}

// keptVerdict returns what is kept of a pool's answer to mining.authorize.
func keptVerdict(r *stratum.Response) *stratum.Response {
	switch {
	case stratum.Consents(r.Result, r.Error):
		return accepted
	case stratum.NoError(r.Error) || len(r.Error) > maxKeptRefusal:
		return refused
	}
	return &stratum.Response{Result: json.RawMessage("null"), Error: r.Error}
}

// workerHeard keeps the answer of the next link's pool to the request for a further
// worker, if the miner waits for it.
func (s *Session) workerHeard(id uint32, r *stratum.Response) {
	for _, a := range s.asked() {
		if a.next == id {
			a.answer = keptVerdict(r)
		}
	}
}

// moveAsked makes the link in use responsible for the requests that the former link has
// not answered. Answers that its pool has already given go to the miner at once.
func (s *Session) moveAsked(former *link) {
	var out []byte
	for _, a := range slices.Clone(s.asked()) {
		minersID := bytes.Clone(former.ownRequests.MinersID(a.id))
		if !bytes.Equal(minersID, a.id) {
			former.ownRequests.Take(a.id)
		}
		if a.worker.name == s.auth.name {
			a.askNext(0, accepted)
		}
		at, otherFirst := s.requests.Find(a.tag, a.id)
		if a.answer == nil && a.next != 0 {
			if at >= 0 {
				s.requests.Remove(at)
			}
			a.tag, a.id = s.link.tag, stratum.OwnIDText(a.next)
			s.link.ownRequests.AnswerMiner(a.next, minersID)
			s.keepForgotten(s.requests.PushMarked(a.tag, a.id, stratum.MarkAuthorize))
			continue
		}
		var line []byte
		if a.answer != nil {
			line = s.dialect().AppendForwarded(nil, minersID, a.answer)
		} else {
			line = s.dialect().AppendError(nil, minersID, stratum.ErrPoolConnectionLost, s.manager.ids.server())
		}
		s.workerIndex.forget(a.worker)
		if at >= 0 && otherFirst {
			s.held = append(s.held, heldAnswer{a.tag, a.id, line})
			continue
		}
		if at >= 0 {
			s.requests.Remove(at)
		}
		out = append(out, line...)
	}
	if len(out) > 0 {
		s.miner.Write(out)
		s.releaseHeld()
	}
}

// askedState returns the id of the unanswered request for w, for runtime.json.
func (w *extraWorker) askedState() json.RawMessage {
	if w.asked == nil {
		return nil
	}
	return w.asked.id
}

// restoreAsked restores the unanswered requests that askedState has returned.
func (s *Session) restoreAsked(workers []requestState) {
	for i, r := range workers {
		if stratum.IsNull(r.ID) || s.link == nil {
			continue
		}
		s.expectWorker(s.workers[i], r.ID)
	}
}

// restoreAgain restores the unanswered request for the first worker.
func (s *Session) restoreAgain(r *requestState) {
	if r == nil || s.link == nil || s.auth == nil {
		return
	}
	s.expectWorker(&extraWorker{method: r.Method, name: s.auth.name, rest: furtherParams((&stratum.Request{Params: r.Params}).ParamList())}, r.ID)
}
