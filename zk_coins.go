package main

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	// zkMaxName bounds a sub-account's name.
	zkMaxName = 128
	// zkMaxCoin bounds a coin's name.
	zkMaxCoin = 64
)

// zkAccount is one sub-account that is asked for, known or both. There is none
// for a name that nobody asks for now and that never had a node.
type zkAccount struct {
	name string
	path string
	// coin is the last one read; empty: none.
	coin string
	// watched: the node exists or existed, so that its coming back is of
	// interest.
	watched bool
	// users counts those who were told the coin and hear of its changes.
	users int

	reading bool
	// again: the node changed, or the connection, while it was being read.
	again   bool
	waiting map[*coinQuery]struct{}
	// unread is set while the node is to be tried again because it could not be
	// read, after unreadWait.
	unread     *time.Timer
	unreadWait time.Duration
	audited    bool // is in a part of the audit
	auditing   bool // is being read by it
	// registration is under way for this account if not nil.
	registration *zkRegistration
}

// validSubAccount says if a name that came from a miner can be a node, and
// only a node, of a directory.
func validSubAccount(name string) bool {
	return len(name) <= zkMaxName && validZKName(name)
}

// validZKName says if a name can be a node, and only a node, of a directory.
func validZKName(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsFunc(name, notInZKName)
}

// notInZKName has the characters that ZooKeeper's own PathUtils refuses, and the
// slash. What is above 0xffff is two surrogates to Java, which are among them,
// and bytes that are not UTF-8 are read as U+FFFD, which is too.
func notInZKName(r rune) bool {
	return r == '/' || r <= 0x1f || r >= 0x7f && r <= 0x9f || r >= 0xd800 && r <= 0xf8ff || r >= 0xfff0
}

// parseCoin gives the coin a node's content stands for; none if it is empty.
func parseCoin(value []byte) (string, error) {
	coin := strings.TrimSpace(string(value))
	if len(coin) > zkMaxCoin {
		return "", fmt.Errorf("%d bytes are too long for a coin's name", len(coin))
	}
	if !utf8.ValidString(coin) || strings.ContainsFunc(coin, unicode.IsControl) {
		return "", fmt.Errorf("%q is not a coin's name", coin)
	}
	return coin, nil
}

func (s *zkCoinSource) lookup(q *coinQuery) {
	if !s.queries.has(q) {
		return
	}
	if !validSubAccount(q.Account) {
		s.queries.refuse(q, errBadSubAccount)
		return
	}
	if s.opts.CaseIndexDir != "" {
		s.resolve(q)
		return
	}
	s.lookupAccount(q, q.Account)
}

func (s *zkCoinSource) lookupAccount(q *coinQuery, name string) {
	a := s.accounts[name]
	if a == nil {
		a = &zkAccount{name: name, path: s.opts.CoinDir + name, waiting: make(map[*coinQuery]struct{})}
		s.accounts[name] = a
	}
	if a.coin != "" {
		s.queries.answer(q, a.name, a.coin, nil, &a.users)
		return
	}
	a.watched = a.watched || q.Established
	a.waiting[q] = struct{}{}
	s.place[q] = a
	if a.registration == nil {
		s.readCoin(a)
	} else {
		s.places.join(a.registration, q)
	}
}

func (s *zkCoinSource) cancelled(q *coinQuery) {
	if e := s.indexPlace[q]; e != nil {
		delete(s.indexPlace, q)
		delete(e.waiting, q)
		s.forgetIndex(e)
	}
	a := s.place[q]
	if a == nil {
		return
	}
	delete(s.place, q)
	delete(a.waiting, q)
	if a.registration != nil {
		s.places.part(a.registration, q)
	}
	if len(a.waiting) > 0 {
		return
	}
	if a.coin == "" && a.users == 0 {
		a.watched = false
	}
	if a.registration != nil {
		s.abandon(a.registration)
	}
	s.forget(a)
}

func (s *zkCoinSource) release(name string) {
	a := s.accounts[name]
	if a == nil || a.users == 0 {
		return
	}
	if a.users--; a.users == 0 && a.coin == "" {
		a.watched = false
		s.forget(a)
	}
}

// forget drops an account that is of no interest any more.
func (s *zkCoinSource) forget(a *zkAccount) {
	if a.watched || len(a.waiting) > 0 || a.registration != nil || a.reading {
		return
	}
	delete(s.accounts, a.name)
	s.readable(a)
}

// readCoin reads the account's node and renews its watch.
func (s *zkCoinSource) readCoin(a *zkAccount) {
	if a.reading {
		a.again = true
		return
	}
	if !s.connected {
		return
	}
	a.reading = true
	// The absence of a node is of interest only to those who mine there: a watch
	// on it can not be taken back.
	evenAbsent := a.watched && (a.users > 0 || len(a.waiting) > 0)
	registered := a.registration != nil && a.registration.gone
	s.do(len(a.waiting) > 0, func() func() {
		node, err := readWatched(s.conn, a.path, evenAbsent)
		return func() { s.coinRead(a, node, err, registered, evenAbsent) }
	})
}

// readWatched reads a node and watches it, even where it is absent if asked to.
func readWatched(conn *zkConn, path string, evenAbsent bool) (zkNode, error) {
	for {
		node, err := conn.watch(path)
		if !evenAbsent || !errors.Is(err, errZKNoNode) {
			return node, err
		}
		// The watch on an absent node is a request of its own, and the node
		// may have come in between.
		exists, err := conn.watchAbsent(path)
		if err != nil {
			return zkNode{}, err
		}
		if !exists {
			return zkNode{}, errZKNoNode
		}
	}
}

// coinRead takes in what a read gave. registered: it began after the
// registration service was done with the account. evenAbsent: the node is
// watched though it is not there.
func (s *zkCoinSource) coinRead(a *zkAccount, node zkNode, err error, registered, evenAbsent bool) {
	a.reading = false
	again := a.again
	a.again = false
	s.audit.readDone(a)
	if err == nil || errors.Is(err, errZKNoNode) {
		s.readable(a)
	}
	switch {
	case err == nil:
		a.watched = true
		coin, err := parseCoin(node.Value)
		if err != nil {
			s.badNodes.add("%s: %v, ignored", a.path, err)
			if a.coin == "" {
				s.answerAll(a, errUnknownSubAccount)
			}
			break
		}
		s.setCoin(a, coin, registered)
	case errors.Is(err, errZKNoNode):
		s.setCoin(a, "", registered)
		if a.watched && a.users == 0 && len(a.waiting) == 0 {
			a.watched = false
		} else if a.watched && !evenAbsent {
			again = true // somebody came meanwhile
		}
	case errors.Is(err, errZKBadPath):
		s.answerAll(a, errBadSubAccount)
	case errors.Is(err, errZKAway):
		if s.connected {
			s.after(zkRetryWait, func() { s.readCoinOf(a) })
		}
		s.forget(a)
		return
	default:
		s.unreadable(a, err)
		s.forget(a)
		return
	}
	if again {
		s.readCoin(a)
	}
	s.forget(a)
	if a.watched {
		s.audit.add(a)
	}
}

// readCoinOf reads an account again if it is still of interest.
func (s *zkCoinSource) readCoinOf(a *zkAccount) {
	if s.accounts[a.name] == a {
		s.readCoin(a)
	}
}

func (s *zkCoinSource) setCoin(a *zkAccount, coin string, registered bool) {
	if coin != a.coin {
		a.coin = coin
		if a.users > 0 {
			s.sink.CoinChanged(a.name, coin)
		}
	}
	if coin != "" {
		s.answerAll(a, nil)
		return
	}
	for q := range a.waiting {
		if q.Established {
			delete(a.waiting, q)
			delete(s.place, q)
			if a.registration != nil {
				s.places.part(a.registration, q)
			}
			s.queries.answer(q, a.name, "", nil, &a.users)
		}
	}
	if len(a.waiting) == 0 {
		return
	}
	switch {
	case registered || !s.opts.AutoReg:
		s.answerAll(a, errUnknownSubAccount)
	case a.registration == nil:
		s.register(a)
	}
}

// answerAll answers everybody who waits for the account, which ends its
// registration.
func (s *zkCoinSource) answerAll(a *zkAccount, err error) {
	coin := a.coin
	if err != nil {
		coin = ""
	}
	for q := range a.waiting {
		delete(a.waiting, q)
		delete(s.place, q)
		s.queries.answer(q, a.name, coin, err, &a.users)
	}
	if a.registration != nil {
		if err == nil || a.registration.gone {
			s.endRegistration(a.registration)
		} else {
			s.abandon(a.registration)
		}
	}
}
