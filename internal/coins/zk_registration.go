package coins

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/netip"
	"time"
)

// zkRegistrationPoll is how often the node of an account that waits for its
// registration is read. If the node were watched instead and the registration failed,
// the watch would stay in the client and the broker for ever.
const zkRegistrationPoll = time.Second

// zkRequestPoll is how many of these reads are made for each read of the request node.
const zkRequestPoll = 5

// zkRegPhase is the phase of a registration.
type zkRegPhase int

const (
	// regCreating means that the request node has to be created.
	regCreating zkRegPhase = iota
	// regWaiting means that the node exists until the registration service deletes it.
	regWaiting
	// regRemoving means that no query waits any more, so the node has to be deleted.
	regRemoving
)

func (p zkRegPhase) String() string {
	switch p {
	case regCreating:
		return "creating"
	case regWaiting:
		return "waiting"
	case regRemoving:
		return "removing"
	}
	return "unknown"
}

// zkRegistration is a request to register an unknown account. It belongs to the owner.
type zkRegistration struct {
	account *zkAccount
	path    string
	value   []byte
	phase   zkRegPhase
	// tried means that the creation was attempted, so the node may be ours.
	tried bool
	// repeated means that the creation was attempted again because an answer was lost. The
	// registration service may have served the first request and deleted it by then, so
	// nobody else deletes the second one.
	repeated bool
	// owned means that this process created the node.
	owned bool
	// served means that the registration service has deleted the node.
	served bool
	// busy means that a worker is making a request for the registration. advanceAgain
	// means that advance has to be called once more after that.
	busy         bool
	advanceAgain bool
	// retrying means that a timer will repeat a failed step.
	retrying bool
	timer    *time.Timer // ends the registration after AutoRegTimeout
	polls    int

	// hasPlace means that the registration has one of the AutoRegMaxWait places.
	// addresses then counts the queries that wait for it by address.
	hasPlace  bool
	addresses map[netip.Addr]int
	number    uint64 // the order of registrations
}

// zkRegRequest is the content of a request node.
type zkRegRequest struct {
	SessionID uint32
	Worker    string
}

// register begins the registration of an account that has open queries.
func (s *ZooKeeper) register(a *zkAccount) {
	if !s.places.free() && !s.makePlace(a) {
		s.registering.add("all %d places for registrations are taken, %s is refused", s.opts.AutoRegMaxWait, a.name)
		s.answerAll(a, ErrRegistrationBusy)
		return
	}
	var first *Query
	for first = range a.waiting {
		break
	}
	request := zkRegRequest{first.SessionID, first.Worker}
	value, err := json.Marshal(request)
	if err != nil {
		s.badNodes.add("registration of %s: %v", a.name, err)
		s.answerAll(a, ErrUnknownSubAccount)
		return
	}
	r := &zkRegistration{account: a, path: s.opts.AutoRegDir + a.name, value: value}
	r.timer = s.after(s.opts.AutoRegTimeout, func() { s.registrationTimedOut(r) })
	a.registration = r
	s.registrations[a.name] = r
	s.places.take(r)
	s.limitedLog.Infof("registration begins", `registration of account=%q begins for miner=%s: it waits up to %v; without a registration service set "EnableUserAutoReg": false`,
		a.name, first.Addr, s.opts.AutoRegTimeout)
	s.advance(r)
}

// advance makes the request that a registration's phase requires.
func (s *ZooKeeper) advance(r *zkRegistration) {
	if s.registrations[r.account.name] != r || !s.connected {
		return
	}
	if r.busy {
		r.advanceAgain = true
		return
	}
	var job zkJob
	switch r.phase {
	case regCreating:
		tried := r.tried
		r.tried, r.repeated = true, tried
		job = func() func() {
			owned, err := createRequest(s.conn, r.path, r.value, tried)
			return func() { s.requestCreated(r, owned, err) }
		}
	case regWaiting:
		job = func() func() {
			_, err := s.conn.watch(r.path)
			return func() { s.requestRead(r, err) }
		}
	case regRemoving:
		job = func() func() {
			err := removeRequest(s.conn, r.path, r.value)
			return func() { s.requestRemoved(r, err) }
		}
	}
	r.busy = true
	s.do(true, func() func() {
		finish := job()
		return func() {
			r.busy = false
			advanceAgain := r.advanceAgain
			r.advanceAgain = false
			finish()
			if advanceAgain {
				s.advance(r)
			}
		}
	})
}

// createRequest creates the request node and reports whether it is ours, because another
// instance may have created it for the same account. tried means that this process may
// have created it as well, in a request whose answer was lost.
func createRequest(conn *zkConn, path string, value []byte, tried bool) (bool, error) {
	err := conn.create(path, value, false)
	if errors.Is(err, errZKNoNode) {
		if err = makeParents(conn, path); err == nil {
			err = conn.create(path, value, false)
		}
	}
	if !errors.Is(err, errZKNodeExists) {
		return err == nil, err
	}
	if !tried {
		return false, nil
	}
	node, err := conn.get(path)
	if errors.Is(err, errZKNoNode) {
		return false, nil // the account has been registered in the meantime
	}
	return bytes.Equal(node.Value, value), err
}

// removeRequest deletes the request node if it is still the one that we created.
func removeRequest(conn *zkConn, path string, value []byte) error {
	node, err := conn.get(path)
	if err != nil {
		return err
	}
	if !bytes.Equal(node.Value, value) {
		return nil
	}
	return conn.remove(path, node.Version)
}

func (s *ZooKeeper) requestCreated(r *zkRegistration, owned bool, err error) {
	switch {
	case err == nil:
		r.owned = r.owned || owned
		if r.phase == regCreating {
			r.phase = regWaiting
			s.pollCoin(r)
		} else if !r.owned {
			s.endRegistration(r)
			return
		}
		s.advance(r)
	case errors.Is(err, errZKBadPath):
		r.served = true
		s.answerAll(r.account, ErrBadSubAccount)
		s.endRegistration(r)
	default:
		s.registrationFailed(r, err)
	}
}

func (s *ZooKeeper) requestRead(r *zkRegistration, err error) {
	switch {
	case err == nil:
		// The node still exists. Its watch will report when it is deleted.
	case errors.Is(err, errZKNoNode):
		r.served = true
		s.readCoin(r.account)
	default:
		s.registrationFailed(r, err)
	}
}

func (s *ZooKeeper) requestRemoved(r *zkRegistration, err error) {
	switch {
	case err == nil, errors.Is(err, errZKNoNode):
		s.endRegistration(r)
	default:
		s.registrationFailed(r, err)
	}
}

// registrationFailed repeats the failed step after a pause. A reconnect repeats it
// earlier.
func (s *ZooKeeper) registrationFailed(r *zkRegistration, err error) {
	wait := zkRetryWait
	if !errors.Is(err, errZKUnavailable) {
		s.unreadNodes.add("registration, %v of %s: %v, trying again", r.phase, r.path, err)
		wait = zkRefusedWait
	}
	if s.connected && !r.retrying {
		r.retrying = true
		s.after(wait, func() {
			r.retrying = false
			s.advance(r)
		})
	}
}

// pollCoin reads the coin every zkRegistrationPoll while the request node exists.
func (s *ZooKeeper) pollCoin(r *zkRegistration) {
	s.after(zkRegistrationPoll, func() {
		if s.registrations[r.account.name] != r || r.phase != regWaiting {
			return
		}
		s.readCoin(r.account)
		// The request node is read as well, because its watch may get lost like any other.
		if r.polls++; r.polls%zkRequestPoll == 0 {
			s.advance(r)
		}
		s.pollCoin(r)
	})
}

func (s *ZooKeeper) registrationTimedOut(r *zkRegistration) {
	if s.registrations[r.account.name] != r || r.phase == regRemoving {
		return
	}
	s.registering.add("%s was not registered within %v", r.account.name, s.opts.AutoRegTimeout)
	s.answerAll(r.account, ErrRegistrationTimeout)
}

// abandon ends a registration that was not served, and deletes its node if this process
// created it.
func (s *ZooKeeper) abandon(r *zkRegistration) {
	r.timer.Stop()
	if r.phase == regRemoving {
		return
	}
	if r.served || !r.owned && !r.tried || r.phase == regWaiting && !r.owned {
		s.endRegistration(r)
		return
	}
	r.phase = regRemoving
	s.places.giveBack(r)
	s.advance(r)
}

// endRegistration drops a registration and continues with the queries for the account
// that have come in the meantime.
func (s *ZooKeeper) endRegistration(r *zkRegistration) {
	r.timer.Stop()
	s.places.giveBack(r)
	a := r.account
	if s.registrations[a.name] == r {
		delete(s.registrations, a.name)
	}
	if a.registration == r {
		a.registration = nil
	}
	if len(a.waiting) > 0 {
		s.readCoin(a)
		return
	}
	s.forget(a)
}
