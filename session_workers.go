package main

import (
	"encoding/json"
	"fmt"
	"strings"
)

// One connection may authorize several workers. The first decides sub-account
// and coin. The others are authorized at the pool as they come, and again at
// each pool the session moves to.

// maxWorkers bounds how many further workers a session remembers.
const maxWorkers = 256

// maxWorkerBytes bounds the bytes of their names and passwords.
const maxWorkerBytes = 64 << 10

// maxWorkerParams is how many parameters of mining.authorize beside the name
// are passed on. One, the password, is usual; each costs more than its bytes.
const maxWorkerParams = 16

// furtherParams are the parameters of mining.authorize after the name.
func furtherParams(params []json.RawMessage) (rest [][]byte) {
	for _, p := range params[1:min(len(params), 1+maxWorkerParams)] {
		rest = append(rest, p)
	}
	return rest
}

// extraWorker is a further worker of a connection.
type extraWorker struct {
	method string
	name   workerName
	rest   [][]byte
}

func (w *extraWorker) size() int {
	n := len(w.name.Miner)
	for _, p := range w.rest {
		n += len(p)
	}
	return n
}

// authorizeExtra handles a mining.authorize after the first. It reports
// whether it understood the request; if not, the line goes to the pool as any
// other.
func (s *Session) authorizeExtra(line []byte) bool {
	r, err := parseRequest(line)
	if err != nil {
		return false
	}
	w, e := s.parseExtra(r)
	if e != nil {
		s.miner.write(s.dialect().appendError(nil, r.ID, e, s.manager.ids.server()))
		return true
	}
	if !s.rememberWorker(w) {
		e := &stratumError{errInvalidSubAccount.Code, fmt.Sprintf("Too Many Workers (%d on one connection)", maxWorkers)}
		s.miner.write(s.dialect().appendError(nil, r.ID, e, s.manager.ids.server()))
		return true
	}
	wire, ok := s.wireID(s.own, s.tag, r.ID)
	if !ok {
		s.miner.write(s.dialect().appendError(nil, r.ID, errTooMany, s.manager.ids.server()))
		return true
	}
	s.requests.push(s.tag, wire, false)
	s.upstream.write(w.appendAuthorize(nil, orNull(wire), s.pool, s.suffixed))
	if k := s.preparing(); k != nil && k.introduced {
		k.introduceWorker(w)
	}
	return true
}

func (s *Session) parseExtra(r *request) (*extraWorker, *stratumError) {
	params := r.paramList()
	if len(params) == 0 {
		return nil, errTooFewParams
	}
	full, ok := jsonString(params[0])
	if !ok {
		return nil, errWorkerNotString
	}
	name := s.manager.chain.parseWorker(full, r.Worker)
	if name.Account == "" {
		return nil, errEmptySubAccount
	}
	if !s.sameAccount(name.Account) {
		return nil, &stratumError{errInvalidSubAccount.Code,
			fmt.Sprintf("%s (this connection is for %s)", errInvalidSubAccount.Text, s.account.name)}
	}
	return &extraWorker{method: r.Method, name: workerName{s.account.name, name.Miner}, rest: furtherParams(params)}, nil
}

// sameAccount compares a name with the session's sub-account, in any case if
// names are kept so.
func (s *Session) sameAccount(name string) bool {
	c := s.manager.config
	if c.StratumServerCaseInsensitive || c.ZKUserCaseInsensitiveIndex != "" {
		return strings.EqualFold(name, s.account.name)
	}
	return name == s.account.name
}

func (s *Session) rememberWorker(w *extraWorker) bool {
	if w.name == s.auth.name {
		return true
	}
	at, size := -1, w.size()
	for i, known := range s.workers {
		if known.name == w.name {
			at = i
			continue
		}
		size += known.size()
	}
	if size > maxWorkerBytes {
		return false
	}
	if at >= 0 {
		s.workers[at] = w
		return true
	}
	if len(s.workers) == maxWorkers {
		return false
	}
	s.workers = append(s.workers, w)
	return true
}

// appendAuthorize appends the worker's request to b, with the name and password
// that the pool wants.
func (w *extraWorker) appendAuthorize(b, id []byte, p *pool, suffixed bool) []byte {
	name := p.workerFor(w.name, suffixed)
	return appendRequest(b, id, w.method, append([][]byte{quote(name)}, p.passwordFor(w.rest)...)...)
}

// introduce tells the new pool of all but the first worker, before any share
// of theirs can come.
func (k *poolLink) introduce() {
	k.introduced = true
	s := k.session
	for _, w := range s.workers {
		k.introduceWorker(w)
	}
	if s.agent != nil {
		k.socket.writeBulk(s.agent.appendAll(nil))
	}
}

func (k *poolLink) introduceWorker(w *extraWorker) {
	id, ok := k.requests.issue()
	if !ok {
		return // the miner has named so many that the pool knows them all
	}
	k.socket.write(w.appendAuthorize(nil, appendOwnID(nil, id), k.pool, k.suffixed))
	k.requests.expect(id)
}
