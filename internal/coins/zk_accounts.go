package coins

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	// MaxName is the most bytes that a sub-account's name may have.
	MaxName = 128
	// MaxCoin is the most bytes that a coin's name may have.
	MaxCoin = 64
)

// zkAccount is a sub-account that has open queries or whose coin is known. There is no
// zkAccount for a name without open queries that never had a node.
type zkAccount struct {
	name string
	path string
	// coin is the coin last read. It is empty if there is none.
	coin string
	// watched means that the node exists, or that it existed and may come back.
	watched bool
	// users counts the successful replies minus the releases.
	users int

	reading bool
	// readAgain means that the node or the connection has changed while the node was
	// being read, so the node must be read once more.
	readAgain bool
	waiting   map[*Query]struct{}
	// retryTimer runs after the node could not be read, until it is read again.
	// retryWait is how long it runs, or 0 if the last read succeeded.
	retryTimer *time.Timer
	retryWait  time.Duration
	audited    bool // belongs to a part of the audit
	auditing   bool // is being read by the audit
	// registration is nil if none is in progress.
	registration *zkRegistration
}

// ValidSubAccount reports whether a miner's name can be a node of the coin directory and
// cannot lead to another directory.
func ValidSubAccount(name string) bool {
	return len(name) <= MaxName && validZKName(name)
}

// validZKName reports whether a name can be appended to a directory as a node's name,
// and cannot lead to another directory.
func validZKName(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsFunc(name, notInZKName)
}

// notInZKName reports whether ZooKeeper's PathUtils.validatePath refuses a character in
// a path, or the character is a slash. Characters above 0xffff are refused because Java
// represents them as two surrogates. Bytes that are not UTF-8 are read as U+FFFD, which
// is refused as well.
func notInZKName(r rune) bool {
	return r == '/' || r <= 0x1f || r >= 0x7f && r <= 0x9f || r >= 0xd800 && r <= 0xf8ff || r >= 0xfff0
}

// parseCoin returns the coin that a node's content names, or "" if it is empty.
func parseCoin(value []byte) (string, error) {
	coin := strings.TrimSpace(string(value))
	if len(coin) > MaxCoin {
		return "", fmt.Errorf("%d bytes are too long for a coin's name", len(coin))
	}
	if !utf8.ValidString(coin) || strings.ContainsFunc(coin, unicode.IsControl) {
		return "", fmt.Errorf("%q is not a coin's name", coin)
	}
	return coin, nil
}

// lookup answers a query or adds it to those that wait.
func (s *ZooKeeper) lookup(q *Query) {
	if !s.queries.has(q) {
		return
	}
	if !ValidSubAccount(q.Account) {
		s.queries.refuse(q, ErrBadSubAccount)
		return
	}
	if s.opts.CaseIndexDir != "" {
		s.resolve(q)
		return
	}
	s.lookupAccount(q, q.Account)
}

func (s *ZooKeeper) lookupAccount(q *Query, name string) {
	a := s.accounts[name]
	if a == nil {
		a = &zkAccount{name: name, path: s.opts.CoinDir + name, waiting: make(map[*Query]struct{})}
		s.accounts[name] = a
	}
	if a.coin != "" {
		s.queries.answer(q, a.name, a.coin, nil, &a.users)
		return
	}
	a.watched = a.watched || q.Established
	a.waiting[q] = struct{}{}
	s.waitsForAccount[q] = a
	if a.registration == nil {
		s.readCoin(a)
	} else {
		s.places.addWaiter(a.registration, q)
	}
}

// cancelled removes a query that was cancelled from those that wait.
func (s *ZooKeeper) cancelled(q *Query) {
	if e := s.waitsForIndex[q]; e != nil {
		delete(s.waitsForIndex, q)
		delete(e.waiting, q)
		s.forgetIndex(e)
	}
	a := s.waitsForAccount[q]
	if a == nil {
		return
	}
	delete(s.waitsForAccount, q)
	delete(a.waiting, q)
	if a.registration != nil {
		s.places.removeWaiter(a.registration, q)
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

func (s *ZooKeeper) release(name string) {
	a := s.accounts[name]
	if a == nil || a.users == 0 {
		return
	}
	if a.users--; a.users == 0 && a.coin == "" {
		a.watched = false
		s.forget(a)
	}
}

// forget drops an account that is no longer needed.
func (s *ZooKeeper) forget(a *zkAccount) {
	if a.watched || len(a.waiting) > 0 || a.registration != nil || a.reading {
		return
	}
	delete(s.accounts, a.name)
	s.readSucceeded(a)
}

// readCoin reads the account's node and renews its watch.
func (s *ZooKeeper) readCoin(a *zkAccount) {
	if a.reading {
		a.readAgain = true
		return
	}
	if !s.connected {
		return
	}
	a.reading = true
	// A watch on an absent node cannot be removed, so it is set only for an account that
	// has sessions or open queries.
	evenAbsent := a.watched && (a.users > 0 || len(a.waiting) > 0)
	registered := a.registration != nil && a.registration.served
	s.do(len(a.waiting) > 0, func() func() {
		node, err := readWatched(s.conn, a.path, evenAbsent)
		return func() { s.coinRead(a, node, err, registered, evenAbsent) }
	})
}

// readWatched reads a node and watches it. If evenAbsent is set, it also watches a node
// that does not exist.
func readWatched(conn *zkConn, path string, evenAbsent bool) (zkNode, error) {
	for {
		node, err := conn.watch(path)
		if !evenAbsent || !errors.Is(err, errZKNoNode) {
			return node, err
		}
		// The watch on an absent node is a separate request, and the node may have been
		// created in between.
		exists, err := conn.watchAbsent(path)
		if err != nil {
			return zkNode{}, err
		}
		if !exists {
			return zkNode{}, errZKNoNode
		}
	}
}

// coinRead handles the result of a read. registered means that the read began after the
// registration service had finished with the account. evenAbsent means that the node is
// watched even if it does not exist.
func (s *ZooKeeper) coinRead(a *zkAccount, node zkNode, err error, registered, evenAbsent bool) {
	a.reading = false
	readAgain := a.readAgain
	a.readAgain = false
	s.audit.readDone(a)
	if err == nil || errors.Is(err, errZKNoNode) {
		s.readSucceeded(a)
	}
	switch {
	case err == nil:
		a.watched = true
		coin, err := parseCoin(node.Value)
		if err != nil {
			s.badNodes.add("%s: %v, ignored", a.path, err)
			if a.coin == "" {
				s.answerAll(a, ErrUnknownSubAccount)
			}
			break
		}
		s.setCoin(a, coin, registered)
	case errors.Is(err, errZKNoNode):
		s.setCoin(a, "", registered)
		if a.watched && a.users == 0 && len(a.waiting) == 0 {
			a.watched = false
		} else if a.watched && !evenAbsent {
			readAgain = true // a query has come in the meantime, so a watch is needed
		}
	case errors.Is(err, errZKBadPath):
		s.answerAll(a, ErrBadSubAccount)
	case errors.Is(err, errZKUnavailable):
		if s.connected {
			s.after(zkRetryWait, func() { s.readCoinOf(a) })
		}
		s.forget(a)
		return
	default:
		s.readFailed(a, err)
		s.forget(a)
		return
	}
	if readAgain {
		s.readCoin(a)
	}
	s.forget(a)
	if a.watched {
		s.audit.add(a)
	}
}

// readCoinOf reads an account again unless it was dropped.
func (s *ZooKeeper) readCoinOf(a *zkAccount) {
	if s.accounts[a.name] == a {
		s.readCoin(a)
	}
}

// setCoin records the coin that a node contains and answers the queries that wait for
// it. coin is empty if there is no node.
func (s *ZooKeeper) setCoin(a *zkAccount, coin string, registered bool) {
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
			delete(s.waitsForAccount, q)
			if a.registration != nil {
				s.places.removeWaiter(a.registration, q)
			}
			s.queries.answer(q, a.name, "", nil, &a.users)
		}
	}
	if len(a.waiting) == 0 {
		return
	}
	switch {
	case registered || !s.opts.AutoReg:
		s.answerAll(a, ErrUnknownSubAccount)
	case a.registration == nil:
		s.register(a)
	}
}

// answerAll answers all queries that wait for the account, and ends its registration.
func (s *ZooKeeper) answerAll(a *zkAccount, err error) {
	coin := a.coin
	if err != nil {
		coin = ""
	}
	for q := range a.waiting {
		delete(a.waiting, q)
		delete(s.waitsForAccount, q)
		s.queries.answer(q, a.name, coin, err, &a.users)
	}
	switch r := a.registration; {
	case r == nil:
	case r.served, err == nil && r.phase == regWaiting && !r.repeated:
		// The registration service has deleted the request, or is about to.
		s.endRegistration(r)
	default:
		s.abandon(r)
	}
}
