package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// One connection may authorize several workers. The first one determines the
// sub-account and thus the coin. Further workers are authorized at the pool as
// they come, and again at each pool that the session moves to.

// maxWorkers bounds how many further workers a session remembers. Some proxies
// carry all miners of a farm on one connection.
const maxWorkers = 4096

// maxWorkerBytes bounds the bytes of the names and passwords of a session's further
// workers: 128 for each on average.
const maxWorkerBytes = 128 * maxWorkers

// maxWorkersParams bounds how many parameters besides the names are kept for all workers
// of a session. Most workers have one, the password. Each takes more memory than its
// bytes.
const maxWorkersParams = 2 * maxWorkers

// maxWorkerParams is how many parameters of one mining.authorize besides the
// name are passed on.
const maxWorkerParams = 16

// furtherParams are the parameters of mining.authorize after the name.
func furtherParams(params []json.RawMessage) (rest [][]byte) {
	for _, p := range params[1:min(len(params), 1+maxWorkerParams)] {
		rest = append(rest, bytes.Clone(p))
	}
	return rest
}

// extraWorker is a further worker of a connection.
type extraWorker struct {
	method string
	name   stratum.WorkerName
	rest   [][]byte
	asked  *askedWorker // nil unless the miner waits for the answer to its mining.authorize
}

// indexKey returns a text that identifies a worker within its session, where all workers
// have the same sub-account. Ethereum's miners may all send the same name and differ only
// in the request's worker field, which is only in Miner.
func (s *Session) indexKey(name stratum.WorkerName) string {
	switch {
	case name.Sent == "":
		return name.Miner
	case s.manager.chain == stratum.Ethereum:
		return name.Sent + "\x00" + name.Miner
	}
	return name.Sent
}

// size is the length of what a pool is sent for the worker. It includes the
// sub-account, which is kept only once but is in each request.
func (w *extraWorker) size() int {
	n := len(w.name.Account) + len(w.name.Miner) + len(w.name.Sent)
	for _, p := range w.rest {
		n += len(p)
	}
	return n
}

// authorizeExtra handles a mining.authorize after the first. It reports whether
// it understood the request; if not, the line goes to the pool like any other.
func (s *Session) authorizeExtra(line []byte) bool {
	r, err := stratum.ParseRequest(line)
	if err != nil {
		return false
	}
	w, e := s.parseExtra(r)
	if e != nil {
		s.miner.Write(s.dialect().AppendError(nil, r.ID, e, s.manager.ids.server()))
		return true
	}
	if !s.rememberWorker(w) {
		e := &stratum.Error{Code: stratum.ErrInvalidSubAccount.Code, Text: fmt.Sprintf("Too Many Workers (%d on one connection)", maxWorkers)}
		s.miner.Write(s.dialect().AppendError(nil, r.ID, e, s.manager.ids.server()))
		return true
	}
	if w.name.Sent != "" && !s.link.rules.renames() {
		s.link.rules = s.linkRules(s.link.pool, s.link.suffixed, s.link.rules)
	}
	again := !r.IsNotification() && s.changesFirstWorker(w, s.link.pool)
	if !again && s.isFirstWorker(w, s.link.pool, s.link.suffixed) {
		if !r.IsNotification() {
			s.miner.Write(s.dialect().AppendResult(nil, r.ID, []byte("true")))
		}
		return true
	}
	wire, ok := s.wireID(s.link, r.ID)
	if !ok {
		s.miner.Write(s.dialect().AppendError(nil, r.ID, stratum.ErrTooMany, s.manager.ids.server()))
		return true
	}
	s.keepForgotten(s.requests.PushMarked(s.link.tag, wire, stratum.MarkAuthorize))
	s.expectWorker(w, wire)
	s.link.socket.Write(w.appendAuthorize(nil, stratum.OrNull(wire), s.link.pool, s.link.suffixed))
	if k := s.preparing(); k != nil && k.introduced && !again {
		k.introduceWorker(w)
	}
	return true
}

// changesFirstWorker reports whether w is the first worker with another password or other
// parameters that p is asked about. Pools that pick the extranonce may read options from
// the password ("d=4096"). One such request can be unanswered at a time.
func (s *Session) changesFirstWorker(w *extraWorker, p *pool) bool {
	return w.name == s.auth.name && p.picksExtranonce && p.password == "" && !slices.EqualFunc(w.rest, s.auth.rest, bytes.Equal) && s.askedAgain() == nil
}

// isFirstWorker reports whether the pool knows w by the name that it has
// already authorized on this connection, as with a template that has no
// {miner}. Some pools close the connection if the same name is authorized
// again.
func (s *Session) isFirstWorker(w *extraWorker, p *pool, suffixed bool) bool {
	return p.workerFor(w.name, suffixed) == p.workerFor(s.auth.name, suffixed)
}

func (s *Session) parseExtra(r *stratum.Request) (*extraWorker, *stratum.Error) {
	params := r.ParamList()
	if len(params) == 0 {
		return nil, stratum.ErrTooFewParams
	}
	full, ok := stratum.JsonString(params[0])
	if !ok {
		return nil, stratum.ErrWorkerNotString
	}
	name := s.manager.chain.ParseWorker(full, r.Worker)
	if name.Account == "" {
		return nil, stratum.ErrEmptySubAccount
	}
	if !s.sameAccount(name.Account) {
		return nil, &stratum.Error{Code: stratum.ErrInvalidSubAccount.Code,
			Text: fmt.Sprintf("%s (this connection is for %s)", stratum.ErrInvalidSubAccount.Text, s.account.name)}
	}
	if !s.link.pool.canName(name) {
		return nil, stratum.ErrEmptySubAccount
	}
	return &extraWorker{method: r.Method, name: name.WithAccount(s.account.name), rest: furtherParams(params)}, nil
}

// sameAccount compares a name with the session's sub-account, ignoring case
// where names are case-insensitive.
func (s *Session) sameAccount(name string) bool {
	c := s.manager.config
	if c.StratumServerCaseInsensitive || c.usesCaseIndex() {
		return strings.EqualFold(name, s.account.name)
	}
	return name == s.account.name
}

// workerIndex finds a session's further workers by their names and counts the
// memory they take. It is nil for sessions without further workers.
type workerIndex struct {
	at     map[string]int // index in the session's list, by indexKey
	bytes  int
	params int
	asked  []*askedWorker
}

func (s *Session) newWorkerIndex() *workerIndex {
	x := &workerIndex{at: make(map[string]int)}
	for i, w := range s.workers {
		x.at[s.indexKey(w.name)] = i
		x.bytes += w.size()
		x.params += len(w.rest)
	}
	return x
}

// rememberWorker adds w to the session's workers, or replaces the one with the same key.
// It returns false if there is no room.
func (s *Session) rememberWorker(w *extraWorker) bool {
	if w.name == s.auth.name {
		return true
	}
	if s.workerIndex == nil {
		s.workerIndex = s.newWorkerIndex()
	}
	x, key := s.workerIndex, s.indexKey(w.name)
	size, params := w.size(), len(w.rest)
	at, known := x.at[key]
	if known {
		size -= s.workers[at].size()
		params -= len(s.workers[at].rest)
	}
	if x.bytes+size > maxWorkerBytes || x.params+params > maxWorkersParams || !known && len(s.workers) == maxWorkers {
		return false
	}
	x.bytes += size
	x.params += params
	if known {
		x.forget(s.workers[at])
		s.workers[at] = w
		return true
	}
	x.at[key] = len(s.workers)
	s.workers = append(s.workers, w)
	return true
}

// appendAuthorize appends the worker's request to b, with the name and password
// that the pool wants.
func (w *extraWorker) appendAuthorize(b, id []byte, p *pool, suffixed bool) []byte {
	name := p.workerFor(w.name, suffixed)
	return stratum.AppendRequest(b, id, w.method, append([][]byte{stratum.Quote(name)}, p.passwordFor(w.rest)...)...)
}

// introduce authorizes the further workers at the new pool before their first
// shares can reach it.
func (k *poolLink) introduce() {
	k.introduced = true
	s := k.session
	var b []byte
	for _, w := range s.workers {
		b = k.appendWorker(b, w)
	}
	if len(b) > 0 {
		k.socket.Write(b)
	}
	if s.agent != nil {
		if s.agent.wantsAnswers {
			k.askCapabilities()
		}
		k.socket.WriteBulk(s.agent.appendAll(nil))
	}
}

func (k *poolLink) introduceWorker(w *extraWorker) {
	if b := k.appendWorker(nil, w); len(b) > 0 {
		k.socket.Write(b)
	}
}

// appendWorker appends the request for a further worker to b, unless the pool
// knows it as the first one, or its name cannot be sent to this pool.
func (k *poolLink) appendWorker(b []byte, w *extraWorker) []byte {
	w.asked.askNext(0, nil)
	if k.session.isFirstWorker(w, k.pool, k.suffixed) {
		w.asked.askNext(0, accepted)
		return b
	}
	if !k.pool.canName(w.name) {
		return b
	}
	id, ok := k.requests.Issue()
	if !ok {
		return b // the miner uses all ids
	}
	k.requests.Expect(id)
	w.asked.askNext(id, nil)
	return w.appendAuthorize(b, stratum.OwnIDText(id), k.pool, k.suffixed)
}
