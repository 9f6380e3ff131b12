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

// resolve finds the registered name before the coin is looked up. The index is read
// for each query. While the broker is away, what was last read is used.
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
	s.indexPlace[q] = e
	s.readIndex(e)
	// It takes a while to find out that a connection is silent. Miners of sub-accounts
	// whose coin is known do not have to wait for that.
	s.after(zkIndexPatience, func() { s.indexTooLate(q, e) })
}

// zkIndexPatience is how long an index entry may take to be read before what was last
// read is used.
const zkIndexPatience = time.Second

// indexTooLate answers a query that still waits for the index if its sub-account's
// coin is known.
func (s *ZooKeeper) indexTooLate(q *Query, e *zkIndexEntry) {
	if !s.queries.has(q) || s.place[q] != nil {
		return
	}
	name := q.Account
	if e.name != "" {
		name = e.name
	}
	if a := s.accounts[name]; a != nil && a.coin != "" {
		delete(s.indexPlace, q)
		delete(e.waiting, q)
		s.lookupAccount(q, name)
	}
}

// resolveCached continues a query with what is known, and reports whether that is
// enough.
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
	asked := e.waiting
	e.waiting = make(map[*Query]struct{})
	for q := range asked {
		delete(s.indexPlace, q)
	}
	s.do(true, func() func() {
		node, err := s.conn.get(s.opts.CaseIndexDir + e.lower)
		return func() { s.indexRead(e, asked, node, err) }
	})
}

func (s *ZooKeeper) indexRead(e *zkIndexEntry, asked map[*Query]struct{}, node zkNode, err error) {
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
		s.indexUnread(e, asked, err)
		return
	}
	for q := range asked {
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

// indexUnread keeps the queries of a failed read for the next one.
func (s *ZooKeeper) indexUnread(e *zkIndexEntry, asked map[*Query]struct{}, err error) {
	wait := zkRetryWait
	if !errors.Is(err, errZKAway) {
		s.unreadNodes.add("reading %s%s: %v, trying again", s.opts.CaseIndexDir, e.lower, err)
		wait = zkRefusedWait
	}
	for q := range asked {
		if s.queries.has(q) && !s.resolveCached(q, e) {
			e.waiting[q] = struct{}{}
			s.indexPlace[q] = e
		}
	}
	if s.connected && !s.resolving {
		s.resolving = true
		s.after(wait, s.resolveAll)
	}
	s.forgetIndex(e)
}

// forgetIndex drops an entry that is not in the index and that nobody waits for.
func (s *ZooKeeper) forgetIndex(e *zkIndexEntry) {
	if e.name == "" && !e.reading && len(e.waiting) == 0 && s.index[e.lower] == e {
		delete(s.index, e.lower)
	}
}
