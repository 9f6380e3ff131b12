package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"
)

const (
	// poolHandshakeTimeout is for all of a link's preparation, dial included.
	poolHandshakeTimeout = 10 * time.Second

	// firstJobGrace is how long the answer to a miner's authorization waits
	// for the pool's first job and for a late answer to mining.configure.
	firstJobGrace = time.Second

	// authorizeGap is the least time between mining.subscribe and
	// mining.authorize at pools that pick their own extranonce.
	authorizeGap = 10 * time.Millisecond

	// maxChanges is how many other extranonces a pool may pick before its link
	// is ready: for each, all it has sent is gone through again.
	maxChanges = 8

	// maxJunkLines is how many lines that are not JSON a pool may send before
	// its link is ready.
	maxJunkLines = 5

	// maxEarly bounds what a pool may send before its link is ready.
	maxEarly = 2 * maxPoolLine
)

var (
	errPoolTimeout   = errors.New("pool handshake not done in time")
	errPoolTooMuch   = errors.New("pool sent too much before the handshake was done")
	errPoolReconnect = errors.New("pool asked to reconnect")
	errPoolNoise     = errors.New("pool sent a line that is not JSON")
)

// refusedError: the pool does not know the worker, with and without suffix.
type refusedError struct{ answer *response }

func (e *refusedError) Error() string {
	return fmt.Sprintf("pool refused the worker: %s", clip(orNull(e.answer.Error)))
}

// subscribeError: the pool does not take the user agent, or nobody at all.
type subscribeError struct{ answer *response }

func (e *subscribeError) Error() string {
	return fmt.Sprintf("pool refused to subscribe: %s", clip(e.answer.Error))
}

// extranonceError: the pool gives another extranonce than the session's, at a
// coin whose pool must take that.
type extranonceError struct{ err error }

func (e *extranonceError) Error() string { return e.err.Error() }

// poolLink prepares one connection to a pool: dial, subscribe with the
// session's extranonce, authorize, first job. It is used for the first connect,
// for switches and reconnects alike. It belongs to its session, which it tells
// by linkReady or linkFailed, once.
type poolLink struct {
	session  *Session
	pool     *pool
	address  *poolAddress
	dialer   dialer
	override bool // the session's own pause replaces the worker's

	dial    *poolDial // until one of the address's IPs is connected
	attempt *attempt  // from then on
	socket  *socket   // of attempt

	deadline *loopTimer
	grace    *loopTimer
	pending  linkPending
	done     bool

	suffixed    bool // the name that was sent last has the suffix
	rolling     bool // the pool knows version rolling
	allowedMask uint32
	answer      *response // to mining.authorize
	refusal     *response // the last one to mining.authorize
	requests    *ownRequests
	configureID uint32 // of the requests whose answers the link waits for
	subscribeID uint32
	authorizeID uint32 // of the last try
	// capabilitiesID is of the request for answers to an agent's shares; 0: none.
	capabilitiesID uint32
	junk           []byte // the first line that was not JSON
	junkLines      int
	introduced     bool // the pool was told of all workers

	subscribedAt time.Time  // when mining.subscribe was sent
	gap          *loopTimer // until mining.authorize is sent

	answersShares bool // the pool says that it answers an agent's binary shares

	given     *givenExtranonce // what the pool answered to subscribe
	translate *translation
	rules     *lineRules // nil: lines go on as they are
	changes   int        // of the extranonce
	own       bool       // the miner has to be told the pool's extranonce

	early   []byte // lines for the miner, in order
	hasJob  bool
	noGrace bool // the grace has run out

	difficulty bool // the pool has told one
}

// linkPending are the answers a link waits for.
type linkPending uint8

const (
	pendingConfigure linkPending = 1 << iota
	pendingSubscribe
	pendingAuthorize
	pendingCapabilities
)

// start begins to connect to one of ips. Once connected, the requests are sent
// without waiting for the answers.
func (k *poolLink) start(ips []*endpoint) {
	s := k.session
	k.requests = newOwnRequests()
	k.deadline = s.loop.after(s.manager.timing.poolHandshake, func() { k.fail(errPoolTimeout) })
	k.dial = &poolDial{link: k, ips: ips}
	if !k.dial.next() {
		k.notConnected()
	}
}

// connected goes on with the first IP that took the connection.
func (k *poolLink) connected(try dialTry) {
	k.dial, k.attempt, k.socket = nil, try.attempt, try.socket
	k.sendHandshake()
}

// notConnected ends the link because no IP is left to try. What that proves
// has been told for each of them.
func (k *poolLink) notConnected() {
	d := k.dial
	k.close()
	switch {
	case d.failure == nil:
		k.session.linkFailed(errPoolsDown, finding{}, evidenceConnect)
	case errors.Is(d.failure, errNoLocalPort):
		k.session.linkFailed(d.failure, d.found, evidencePorts)
	case d.found.blame == blameMachine:
		k.session.linkFailed(fmt.Errorf("%w: %w", errMachineIsShort, d.failure), d.found, evidenceMachine)
	default:
		k.session.linkFailed(d.failure, d.found, evidenceConnect)
	}
}

// sendHandshake begins the handshake. A pool that takes the session's extranonce
// gets all requests in one packet. Others get one after the other, as a miner
// would send them: there are some that refuse a worker before subscribe is
// answered, and some that ignore suggestions before authorize is (protocol.md,
// "Handshake with the pool").
func (k *poolLink) sendHandshake() {
	s := k.session
	s.lookAhead()
	var b []byte
	if s.askedMask != 0 {
		k.configureID, _ = k.requests.issue()
		b = appendRequest(b, appendOwnID(nil, k.configureID), "mining.configure",
			[]byte(`["version-rolling"]`), fmt.Appendf(nil, `{"version-rolling.mask":"%08x"}`, s.askedMask))
		k.pending |= pendingConfigure
	}
	params := s.manager.chain.poolSubscribeParams(s.subscription, s.id, s.addr.Addr())
	if k.pool.ownExtranonce {
		params = params[:1] // as an ordinary miner would
	}
	k.subscribeID, _ = k.requests.issue()
	k.subscribedAt = time.Now()
	b = appendRequest(b, appendOwnID(nil, k.subscribeID), "mining.subscribe", params...)
	k.pending |= pendingSubscribe | pendingAuthorize
	if !k.pool.ownExtranonce {
		b = k.appendSuggestions(b)
		b = k.appendAuthorize(b)
	}
	k.socket.write(b)
}

func (k *poolLink) appendSuggestions(b []byte) []byte {
	for _, suggestion := range k.session.suggestions {
		id, _ := k.requests.issue()
		b = fmt.Appendf(b, `{"id":%d,"method":%s,"params":%s}`+"\n", id, quote(suggestion.method), suggestion.params)
		k.requests.expect(id)
	}
	return b
}

func (k *poolLink) appendAuthorize(b []byte) []byte {
	auth := k.session.auth
	name := k.pool.workerFor(auth.name, k.suffixed)
	k.authorizeID, _ = k.requests.issue()
	return appendRequest(b, appendOwnID(nil, k.authorizeID), auth.method, append([][]byte{quote(name)}, k.pool.passwordFor(auth.rest)...)...)
}

// authorizeNext sends mining.authorize after mining.subscribe has been answered.
// Some pools refuse a worker that comes within a few milliseconds of subscribe,
// so one at a nearby pool waits for a moment.
func (k *poolLink) authorizeNext() {
	s := k.session
	if wait := authorizeGap - time.Since(k.subscribedAt); wait > 0 {
		k.gap = s.loop.after(wait, func() { k.socket.write(k.appendAuthorize(nil)) })
		return
	}
	k.socket.write(k.appendAuthorize(nil))
}

// received consumes lines until the link is ready; what follows is the
// session's.
func (k *poolLink) received(b []byte) int {
	used := 0
	for !k.done {
		line, err := k.next(b[used:])
		if line == nil {
			if err == nil && len(b)-used >= maxPoolLine {
				err = errLineTooLong
			}
			if err != nil {
				k.fail(err)
			}
			return used
		}
		used += len(line)
		k.line(line)
	}
	return used
}

func (k *poolLink) next(b []byte) ([]byte, error) {
	if k.session.agent != nil {
		return nextAgentMessage(b)
	}
	return nextLine(b), nil
}

func (k *poolLink) line(line []byte) {
	if line[0] == agentMagic {
		k.keep(line)
		return
	}
	sc := scanPoolLine(line)
	if !sc.whole || sc.odd {
		canonical, err := canonicalLine(line)
		if err != nil {
			k.noise(line)
			return
		}
		line = canonical
		sc = scanPoolLine(line)
	}
	switch kind := sc.poolKind(line); kind {
	case lineJob:
		if !k.hasJob {
			k.hasJob = true
		}
		k.keep(line)
	case lineDifficulty:
		k.difficulty = true
		k.keep(line)
	case lineAnswer:
		k.answerLine(line)
	case lineVersionMask:
		r, err := parseRequest(line)
		if err != nil {
			k.fail(errPoolNoise)
			return
		}
		if mask, ok := versionMaskOf(r); ok {
			k.rolling, k.allowedMask = true, mask
		}
	case lineSetExtranonce:
		k.extranonceChanged(line)
	case lineReconnect:
		// The miner must stay here, so only a pool that names no other place
		// may be meant to go on with.
		if namesHost(line) {
			k.fail(errPoolReconnect)
		}
	default:
		k.keep(line)
	}
	k.progress()
}

// noise deals with a line that is not JSON. A banner or some junk before the
// answers is no fault; the answer of a web server is.
func (k *poolLink) noise(line []byte) {
	line = bytes.Trim(line, lineJunk)
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

// lostBy is why the link failed that ended with err: what the pool said instead
// of JSON, if there was such a line.
func (k *poolLink) lostBy(err error) error {
	if k.junk == nil {
		return err
	}
	return fmt.Errorf("%w: %q", errPoolNoise, clip(k.junk))
}

// namesHost reports whether client.reconnect names where to go.
func namesHost(line []byte) bool {
	r, err := parseRequest(line)
	if err != nil {
		return false
	}
	params := r.paramList()
	if len(params) == 0 {
		return false
	}
	host, _ := jsonString(params[0])
	return host != ""
}

// keep stores a line for the miner.
func (k *poolLink) keep(line []byte) {
	if len(k.early)+len(line) > maxEarly {
		k.fail(errPoolTooMuch)
		return
	}
	k.early = append(k.early, line...)
}

func (k *poolLink) answerLine(line []byte) {
	r, err := parseResponse(line)
	if err != nil {
		k.noise(line)
		return
	}
	s := k.session
	id, ok := ownIDOf(r.ID)
	if !ok {
		// ETHProxy pools send jobs as answers nobody asked for.
		if s.manager.chain == chainEthereum && len(r.Result) > 0 && r.Result[0] == '[' {
			if !k.hasJob {
				k.hasJob = true
			}
			k.keep(line)
		}
		return
	}
	switch id {
	case k.configureID:
		k.pending &^= pendingConfigure
		k.configured(r)
	case k.subscribeID:
		if k.pending&pendingSubscribe == 0 {
			return
		}
		k.pending &^= pendingSubscribe
		if !noError(r.Error) {
			k.fail(&subscribeError{r})
		} else if err := k.subscribed(r.Result); err != nil {
			k.fail(err)
		} else {
			k.attempt.subscribed()
			if k.pool.ownExtranonce {
				k.authorizeNext()
			}
		}
	case k.authorizeID:
		k.authorized(r)
	default:
		if k.pending&pendingCapabilities != 0 && id == k.capabilitiesID {
			k.pending &^= pendingCapabilities
			k.answersShares = hasSubmitAnswers(r)
			return
		}
		k.requests.take(r.ID)
	}
}

// subscribed checks the pool's answer to mining.subscribe and decides how the
// lines have to be changed.
func (k *poolLink) subscribed(result json.RawMessage) error {
	s := k.session
	if !k.pool.ownExtranonce {
		if err := s.manager.chain.checkPoolSubscribe(s.subscription, s.id, result); err != nil {
			return &extranonceError{err}
		}
		if s.shape.X == "" {
			return nil
		}
	}
	given, err := parseGiven(result)
	if err != nil {
		return err
	}
	return k.take(given)
}

// take notes the pool's extranonce.
func (k *poolLink) take(given *givenExtranonce) error {
	k.session.lookAhead()
	if k.pool.ownExtranonce {
		k.session.manager.sizes.saw(k.address, given.Size)
	}
	t, own, err := k.session.translationFor(k.pool, given)
	if err != nil {
		return err
	}
	k.given, k.own, k.translate = given, own, t
	return nil
}

// extranonceChanged handles mining.set_extranonce. Jobs before it are void.
func (k *poolLink) extranonceChanged(line []byte) {
	if !k.pool.ownExtranonce {
		k.fail(&extranonceError{k.session.extranonceRefused(line)})
		return
	}
	if k.changes++; k.changes > maxChanges {
		k.fail(errPoolTooMuch)
		return
	}
	given, err := extranonceOf(line)
	if err == nil {
		err = k.take(given)
	}
	if err != nil {
		k.fail(err)
		return
	}
	kept := k.early
	k.early, k.hasJob = nil, false
	for len(kept) > 0 {
		line := nextLine(kept)
		kept = kept[len(line):]
		if poolLineKind(line) != lineJob {
			k.keep(line)
		}
	}
}

// configured reads the pool's answer to mining.configure. A pool that knows
// no version rolling allows no bit.
func (k *poolLink) configured(r *response) {
	if rolling, allowed := rollingOf(r); rolling {
		k.rolling, k.allowedMask = true, allowed
	}
}

// rollingOf reads from an answer to mining.configure whether the pool knows
// version rolling, and which bits it allows.
func rollingOf(r *response) (rolling bool, allowed uint32) {
	var result map[string]json.RawMessage
	if len(r.Result) == 0 || wireJSON.Unmarshal(r.Result, &result) != nil {
		return false, 0
	}
	switch string(result["version-rolling"]) {
	case "true", "1", `"true"`:
		allowed, _ = parseMask(result["version-rolling.mask"])
		return true, allowed
	}
	return false, 0
}

// authorized reads the pool's answer to mining.authorize. A refused name is
// tried once more with the coin's suffix.
func (k *poolLink) authorized(r *response) {
	if k.pending&pendingAuthorize == 0 {
		return
	}
	if noError(r.Error) && string(r.Result) != "false" {
		if isNull(r.Result) {
			// P2Pool says no more than that there is no error. Not all miners
			// take that for consent.
			r.Result = json.RawMessage("true")
		}
		k.pending &^= pendingAuthorize
		k.answer = r
		if k.pool.ownExtranonce {
			k.socket.write(k.appendSuggestions(nil))
		}
		k.introduce()
		return
	}
	k.refusal = r
	if !k.suffixed && k.pool.suffix != "" && !k.pool.renames() {
		k.suffixed = true
		k.socket.write(k.appendAuthorize(nil))
		return
	}
	k.fail(&refusedError{r})
}

// progress sees whether the link is ready.
func (k *poolLink) progress() {
	if k.done || k.pending&(pendingSubscribe|pendingAuthorize) != 0 {
		return
	}
	if k.pending == 0 && k.hasJob {
		k.ready()
		return
	}
	if k.noGrace && (k.hasJob || k.session.phase == phaseRouting) {
		k.ready()
		return
	}
	if k.grace == nil {
		k.grace = k.session.loop.after(k.session.manager.timing.firstJobGrace, func() {
			k.noGrace = true
			k.progress()
		})
	}
}

func (k *poolLink) ready() {
	if err := k.untranslatable(); err != nil {
		k.fail(err)
		return
	}
	k.done = true
	k.rules = linkRules(k.pool, k.suffixed, k.translate, k.session.askedMask != 0 && !k.rolling)
	k.session.linkReady(k)
}

// fail ends the link, tells what that proves, and tells the session.
func (k *poolLink) fail(err error) {
	if k.done {
		return
	}
	s := k.session
	if k.dial != nil { // nothing has connected in time
		for _, t := range k.dial.tries {
			f := t.attempt.failed(evidenceConnect, nil)
			k.dial.failure, k.dial.found = err, f
			s.manager.linkFound(k.pool, k.address, t.attempt.at, evidenceConnect, f, err)
			t.socket.reset()
		}
		k.dial.tries = nil
		k.notConnected()
		return
	}
	ev, err := k.evidenceOf(err)
	var answer *response
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

// evidenceOf says what the link's end proves, by what ended it and by what the
// pool had answered until then.
func (k *poolLink) evidenceOf(err error) (evidence, error) {
	var refused *refusedError
	var subscribe *subscribeError
	var extranonce *extranonceError
	switch {
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
		// It has answered, whatever became of the name with the suffix.
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

// isHangUp says that the pool has closed or reset the connection.
func isHangUp(err error) bool {
	var errno syscall.Errno
	return errors.Is(err, errPeerClosed) || errors.Is(err, io.EOF) || errors.As(err, &errno)
}

// close ends the link without telling the session.
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
		k.socket.reset()
	}
}

func (k *poolLink) stopTimers() {
	k.session.loop.stopTimer(k.deadline)
	k.session.loop.stopTimer(k.grace)
	k.session.loop.stopTimer(k.gap)
}

// untranslatable reports why a job that has come can not be changed for the
// miner, if so.
func (k *poolLink) untranslatable() error {
	if k.translate == nil || !k.hasJob {
		return nil
	}
	for rest := k.early; len(rest) > 0; {
		line := k.session.nextMessage(rest)
		rest = rest[len(line):]
		if line[0] == agentMagic || poolLineKind(line) != lineJob {
			continue
		}
		if _, ok := k.translate.appendJob(nil, line); !ok {
			return jobError(line)
		}
	}
	return nil
}

// unanswered are the own requests whose answers may still come.
func (k *poolLink) unanswered() *ownRequests {
	if k.pending&pendingConfigure != 0 {
		k.requests.expectConfigure(k.configureID)
	}
	if k.pending&pendingCapabilities != 0 {
		k.requests.expectCapabilities(k.capabilitiesID)
	}
	return k.requests
}

// greeting is what the pool has said to the miner so far, in order. With
// clean, the first job drops all jobs before it: they are another pool's.
func (k *poolLink) greeting(clean bool) []byte {
	s := k.session
	out := make([]byte, 0, len(k.early)+64)
	for rest := k.early; len(rest) > 0; {
		line := s.nextMessage(rest)
		rest = rest[len(line):]
		if line[0] == agentMagic {
			out = append(out, line...)
			continue
		}
		switch poolLineKind(line) {
		case lineJob:
			told := s.jobNoted(line)
			if clean {
				line = setClean(k.session.manager.chain, line)
				clean = false
			}
			from := len(out)
			if k.rules != nil {
				out, _ = k.rules.job(out, line) // ready has seen that it can be done
			} else {
				out = append(out, line...)
			}
			if told != nil {
				out = append(out[:from], putJobID(out[from:], 0, told)...)
			}
			continue
		case lineAnswer:
			s.answerJobNoted(line)
		}
		out = append(out, line...)
	}
	return out
}

// versionMaskOf reads mining.set_version_mask.
func versionMaskOf(r *request) (uint32, bool) {
	params := r.paramList()
	if len(params) == 0 {
		return 0, false
	}
	return parseMask(params[0])
}
