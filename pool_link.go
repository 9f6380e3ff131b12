package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

const (
	// poolHandshakeTimeout is for all of a link's preparation, dial included.
	poolHandshakeTimeout = 10 * time.Second

	// firstJobGrace is how long the answer to a miner's authorization waits
	// for the pool's first job and for a late answer to mining.configure.
	firstJobGrace = time.Second

	// maxChanges is how many other extranonces a pool may pick before its link
	// is ready: for each, all it has sent is gone through again.
	maxChanges = 8

	// maxEarly bounds what a pool may send before its link is ready.
	maxEarly = 2 * maxPoolLine
)

// The ids of the switcher's own requests to a pool: protocol.md, "Handshake
// with the pool".
const (
	idConfigure = `"configure"`
	idSubscribe = `"subscribe"`
	idAuthorize = `"auth"`
	idSuggest   = `"suggest"`
	idWorker    = `"worker"`
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

// poolLink prepares one connection to a pool: dial, subscribe with the
// session's extranonce, authorize, first job. It is used for the first connect,
// for switches and reconnects alike. It belongs to its session, which it tells
// by linkReady or linkFailed, once.
type poolLink struct {
	session *Session
	pool    *pool
	socket  *socket

	deadline *loopTimer
	grace    *loopTimer
	pending  linkPending
	done     bool

	suffixed    bool // the name that was sent last has the suffix
	rolling     bool // the pool knows version rolling
	allowedMask uint32
	answer      *response // to mining.authorize
	unasked     int       // answers to come that the miner did not ask for
	introduced  bool      // the pool was told of all workers

	given     *givenExtranonce // what the pool answered to subscribe
	translate *translation
	rules     *lineRules // nil: lines go on as they are
	changes   int        // of the extranonce
	own       bool       // the miner has to be told the pool's extranonce

	early   []byte // lines for the miner, in order
	jobAt   int    // where in early the first job starts; valid if hasJob
	hasJob  bool
	noGrace bool // the grace has run out
}

// linkPending are the answers a link waits for.
type linkPending uint8

const (
	pendingConfigure linkPending = 1 << iota
	pendingSubscribe
	pendingAuthorize
)

// newPoolLink begins to connect and queues the requests, which are sent
// together without waiting for the answers.
func newPoolLink(s *Session, p *pool, addr netip.AddrPort) (*poolLink, error) {
	k := &poolLink{session: s, pool: p}
	sock, err := s.loop.dial(addr, s)
	if err != nil {
		return nil, err
	}
	k.socket = sock
	k.deadline = s.loop.after(s.manager.timing.poolHandshake, func() { k.fail(errPoolTimeout) })
	k.sendHandshake()
	return k, nil
}

func (k *poolLink) sendHandshake() {
	s := k.session
	var b []byte
	if s.askedMask != 0 {
		b = appendRequest(b, idConfigure, "mining.configure",
			[]byte(`["version-rolling"]`), fmt.Appendf(nil, `{"version-rolling.mask":"%08x"}`, s.askedMask))
		k.pending |= pendingConfigure
	}
	params := s.manager.chain.poolSubscribeParams(s.subscription, s.id, s.addr.Addr())
	if k.pool.ownExtranonce {
		params = params[:1] // as an ordinary miner would
	}
	b = appendRequest(b, idSubscribe, "mining.subscribe", params...)
	for _, suggestion := range s.suggestions {
		b = fmt.Appendf(b, `{"id":%s,"method":%s,"params":%s}`+"\n", idSuggest, quote(suggestion.method), suggestion.params)
		k.unasked++
	}
	b = k.appendAuthorize(b)
	k.pending |= pendingSubscribe | pendingAuthorize
	k.socket.write(b)
}

func (k *poolLink) appendAuthorize(b []byte) []byte {
	auth := k.session.auth
	name := k.pool.workerFor(auth.name, k.suffixed)
	return appendRequest(b, idAuthorize, auth.method, append([][]byte{quote(name)}, k.pool.passwordFor(auth.rest)...)...)
}

func (k *poolLink) connected(err error) {
	if err != nil {
		k.fail(err)
	}
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
	switch kind := poolLineKind(line); kind {
	case lineJob:
		if !k.hasJob {
			k.hasJob, k.jobAt = true, len(k.early)
		}
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
		k.fail(errPoolReconnect)
	default:
		k.keep(line)
	}
	k.progress()
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
		if len(bytes.TrimSpace(line)) > 0 {
			k.fail(errPoolNoise)
		}
		return
	}
	s := k.session
	switch string(r.ID) {
	case idConfigure:
		k.pending &^= pendingConfigure
		k.configured(r)
	case idSubscribe:
		k.pending &^= pendingSubscribe
		if !isNull(r.Error) {
			k.fail(fmt.Errorf("pool refused to subscribe: %s", clip(r.Error)))
		} else if err := k.subscribed(r.Result); err != nil {
			k.fail(err)
		}
	case idAuthorize:
		k.authorized(r)
	case idSuggest, idWorker:
		k.unasked--
	default:
		// ETHProxy pools send jobs as answers nobody asked for.
		if s.manager.chain == chainEthereum && len(r.Result) > 0 && r.Result[0] == '[' {
			if !k.hasJob {
				k.hasJob, k.jobAt = true, len(k.early)
			}
			k.keep(line)
		}
	}
}

// subscribed checks the pool's answer to mining.subscribe and decides how the
// lines have to be changed.
func (k *poolLink) subscribed(result json.RawMessage) error {
	s := k.session
	if !k.pool.ownExtranonce {
		if err := s.manager.chain.checkPoolSubscribe(s.subscription, s.id, result); err != nil {
			return err
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
		k.fail(k.session.extranonceRefused(line))
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
	var result map[string]any
	if len(r.Result) == 0 || wireJSON.Unmarshal(r.Result, &result) != nil {
		return
	}
	if on, _ := result["version-rolling"].(bool); on {
		text, _ := result["version-rolling.mask"].(string)
		k.rolling = true
		k.allowedMask, _ = parseMask(text)
	}
}

// authorized reads the pool's answer to mining.authorize. A refused name is
// tried once more with the coin's suffix.
func (k *poolLink) authorized(r *response) {
	if k.pending&pendingAuthorize == 0 {
		return
	}
	if isNull(r.Error) && !isNull(r.Result) && string(r.Result) != "false" {
		k.pending &^= pendingAuthorize
		k.answer = r
		k.introduce()
		return
	}
	if !k.suffixed && k.pool.suffix != "" && k.pool.worker == "" {
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
	k.done = true
	k.rules = linkRules(k.pool, k.suffixed, k.translate, k.session.askedMask != 0 && !k.rolling)
	k.session.linkReady(k)
}

// fail ends the link and tells the session.
func (k *poolLink) fail(err error) {
	if k.done {
		return
	}
	k.close()
	k.session.linkFailed(err)
}

// close ends the link without telling the session.
func (k *poolLink) close() {
	k.done = true
	k.stopTimers()
	k.socket.close()
}

func (k *poolLink) stopTimers() {
	k.session.loop.stopTimer(k.deadline)
	k.session.loop.stopTimer(k.grace)
}

// unanswered is how many answers may still come that the miner must not see.
func (k *poolLink) unanswered() int {
	n := k.unasked
	if k.pending&pendingConfigure != 0 {
		n++
	}
	return n
}

// greeting is what the pool has said to the miner so far, in order. With
// clean, the first job drops all jobs before it: they are another pool's.
func (k *poolLink) greeting(clean bool) []byte {
	if !k.hasJob || !clean && k.rules == nil {
		return k.early
	}
	out := make([]byte, 0, len(k.early)+64)
	out = append(out, k.early[:k.jobAt]...)
	for rest := k.early[k.jobAt:]; len(rest) > 0; {
		line := k.session.nextMessage(rest)
		rest = rest[len(line):]
		if line[0] != agentMagic && poolLineKind(line) == lineJob {
			if clean {
				line = setClean(line)
				clean = false
			}
			if k.rules != nil {
				out = k.rules.job(k.session.manager, out, line)
				continue
			}
		}
		out = append(out, line...)
	}
	return out
}

// setClean returns a mining.notify line with its clean flag true: the last
// parameter, if that is a boolean.
func setClean(job []byte) []byte {
	params, at := lastParam(job)
	if !bytes.HasSuffix(params, []byte("false")) {
		return job
	}
	from := at + len(params) - len("false")
	out := make([]byte, 0, len(job))
	out = append(out, job[:from]...)
	out = append(out, "true"...)
	return append(out, job[from+len("false"):]...)
}

// versionMaskOf reads mining.set_version_mask.
func versionMaskOf(r *request) (uint32, bool) {
	params := r.paramList()
	if len(params) == 0 {
		return 0, false
	}
	text, ok := jsonString(params[0])
	if !ok {
		return 0, false
	}
	return parseMask(text)
}
