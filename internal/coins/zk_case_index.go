package coins

import (
	"errors"
	"strings"
	"time"
)

// zkIndexEntry is a lower-case name of the case index that is known or being read.
type zkIndexEntry struct {
	lower string
	// name is the registered name last read. It is empty if there was none.
	name    string
	reading bool
	waiting map[*Query]struct{}
}

// resolve finds the registered name before the coin is looked up. The index is read for
// each query. While no broker is available, the name last read is used.
func (s *ZooKeeper) resolve(q *Query) {
	lower := strings.ToLower(q.Account)
	if !ValidSubAccount(lower) {
		s.queries.refuse(q, ErrBadSubAccount)
		return
	}
	e := s.index[lower]
	if !s.connected && s.resolveCached(q, e) {
		return
	}
	if e == nil {
		e = &zkIndexEntry{lower: lower, waiting: make(map[*Query]struct{})}
		s.index[lower] = e
	}
	e.waiting[q] = struct{}{}
	s.waitsForIndex[q] = e
	s.readIndex(e)
	// It takes a while to find out that a connection is silent. Miners of sub-accounts
	// whose coin is known do not have to wait for that.
	s.after(zkIndexWait, func() { s.indexTooLate(q, e) })
}

// zkIndexWait is how long reading an index entry may take before the name last read is
// used instead.
const zkIndexWait = time.Second

// indexTooLate answers a query that still waits for the index if its sub-account's
// coin is known.
func (s *ZooKeeper) indexTooLate(q *Query, e *zkIndexEntry) {
	if !s.queries.has(q) || s.waitsForAccount[q] != nil {
		return
	}
	name := q.Account
	if e.name != "" {
		name = e.name
	}
	if a := s.accounts[name]; a != nil && a.coin != "" {
		delete(s.waitsForIndex, q)
		delete(e.waiting, q)
		s.lookupAccount(q, name)
	}
}

// resolveCached continues a query with the name or coin that is known, and reports
// whether there is one.
func (s *ZooKeeper) resolveCached(q *Query, e *zkIndexEntry) bool {
	if e != nil && e.name != "" {
		s.lookupAccount(q, e.name)
		return true
	}
	if a := s.accounts[q.Account]; a != nil && a.coin != "" {
		s.lookupAccount(q, q.Account)
		return true
	}
	return false
}

// resolveAll continues the queries that wait for the index.
func (s *ZooKeeper) resolveAll() {
	s.resolving = false
	for _, e := range s.index {
		if len(e.waiting) > 0 {
			s.readIndex(e)
		}
	}
}

func (s *ZooKeeper) readIndex(e *zkIndexEntry) {
	if e.reading || !s.connected {
		return
	}
	e.reading = true
	queries := e.waiting
	e.waiting = make(map[*Query]struct{})
	for q := range queries {
		delete(s.waitsForIndex, q)
	}
	s.do(true, func() func() {
		node, err := s.conn.get(s.opts.CaseIndexDir + e.lower)
		return func() { s.indexRead(e, queries, node, err) }
	})
}

// indexRead handles the result of a read that was made for the given queries.
func (s *ZooKeeper) indexRead(e *zkIndexEntry, queries map[*Query]struct{}, node zkNode, err error) {
	e.reading = false
	switch {
	case err == nil:
		e.name = strings.TrimSpace(string(node.Value))
		if e.name != "" && !ValidSubAccount(e.name) {
			s.badNodes.add("%s%s: %q cannot be a sub-account, ignored", s.opts.CaseIndexDir, e.lower, e.name)
			e.name = ""
		}
	case errors.Is(err, errZKNoNode), errors.Is(err, errZKBadPath):
		e.name = ""
	default:
		s.indexReadFailed(e, queries, err)
		return
	}
	for q := range queries {
		if !s.queries.has(q) {
			continue
		}
		if e.name != "" {
			s.lookupAccount(q, e.name)
		} else {
			s.lookupAccount(q, q.Account)
		}
	}
	if len(e.waiting) > 0 {
		s.readIndex(e)
	}
	s.forgetIndex(e)
}

// indexReadFailed keeps the queries of a failed read for the next one.
func (s *ZooKeeper) indexReadFailed(e *zkIndexEntry, queries map[*Query]struct{}, err error) {
	wait := zkRetryWait
	if !errors.Is(err, errZKUnavailable) {
		s.unreadNodes.add("reading %s%s: %v, trying again", s.opts.CaseIndexDir, e.lower, err)
		wait = zkRefusedWait
	}
	for q := range queries {
		if s.queries.has(q) && !s.resolveCached(q, e) {
			e.waiting[q] = struct{}{}
			s.waitsForIndex[q] = e
		}
	}
	if s.connected && !s.resolving {
		s.resolving = true
		s.after(wait, s.resolveAll)
	}
	s.forgetIndex(e)
}

// forgetIndex drops an entry that is not in the index and that no query waits for.
func (s *ZooKeeper) forgetIndex(e *zkIndexEntry) {
	if e.name == "" && !e.reading && len(e.waiting) == 0 && s.index[e.lower] == e {
		delete(s.index, e.lower)
	}
}
