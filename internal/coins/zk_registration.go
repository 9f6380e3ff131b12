package coins

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/netip"
	"time"
)

// zkRegistrationPoll is how often the node of an account that waits for its
// registration is read. A watch on the absent node would stay in the client and the
// broker for ever if the registration failed.
const zkRegistrationPoll = time.Second

// zkRequestPoll is after how many of these reads the request node is read as well.
const zkRequestPoll = 5

// zkRegPhase is the phase of a registration.
type zkRegPhase int

const (
	// regCreating: the request node has to be created.
	regCreating zkRegPhase = iota
	// regWaiting: the node exists until the registration service deletes it.
	regWaiting
	// regRemoving: nobody waits any more, so the node has to be deleted.
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
	// tried says that the creation was attempted, so the node may be ours.
	tried bool
	// owned says that this process created the node.
	owned bool
	// gone says that the registration service deleted the node.
	gone bool
	// busy says that a worker makes a request for it, and again that it has to be
	// advanced once more afterwards.
	busy  bool
	again bool
	// retrying says that a timer will repeat a failed step.
	retrying bool
	timer    *time.Timer
	polls    int

	// hasPlace says that it has one of AutoRegMaxWait places. addresses then counts
	// the queries that wait for it by address.
	hasPlace  bool
	addresses map[netip.Addr]int
	number    uint64 // the order of registrations
}

// zkRegRequest is the content of a request node.
type zkRegRequest struct {
	SessionID uint32
	Worker    string
}

// register begins the registration of an account that somebody waits for.
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
		r.again = true
		return
	}
	var job zkJob
	switch r.phase {
	case regCreating:
		tried := r.tried
		r.tried = true
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
			again := r.again
			r.again = false
			finish()
			if again {
				s.advance(r)
			}
		}
	})
}

// createRequest creates the request node and reports whether it is ours: another
// instance may have created it for the same account. tried says that this process may
// have created it too, in a request whose answer was lost.
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
		return false, nil // the account was registered meanwhile
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
		r.gone = true
		s.answerAll(r.account, ErrBadSubAccount)
		s.endRegistration(r)
	default:
		s.registrationFailed(r, err)
	}
}

func (s *ZooKeeper) requestRead(r *zkRegistration, err error) {
	switch {
	case err == nil:
		// The node still exists; its watch reports when it is deleted.
	case errors.Is(err, errZKNoNode):
		r.gone = true
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

// registrationFailed repeats the step after a pause. A reconnect repeats it at once.
func (s *ZooKeeper) registrationFailed(r *zkRegistration, err error) {
	wait := zkRetryWait
	if !errors.Is(err, errZKAway) {
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

// pollCoin reads the coin now and then while the request node still exists.
func (s *ZooKeeper) pollCoin(r *zkRegistration) {
	s.after(zkRegistrationPoll, func() {
		if s.registrations[r.account.name] != r || r.phase != regWaiting {
			return
		}
		s.readCoin(r.account)
		// The watch on the request node may get lost like any other.
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

// abandon ends a registration that was not served. A node that we created for it must
// not stay behind.
func (s *ZooKeeper) abandon(r *zkRegistration) {
	r.timer.Stop()
	if r.phase == regRemoving {
		return
	}
	if r.gone || !r.owned && !r.tried || r.phase == regWaiting && !r.owned {
		s.endRegistration(r)
		return
	}
	r.phase = regRemoving
	s.places.leave(r)
	s.advance(r)
}

// endRegistration drops a registration and continues the queries that have come for
// the account meanwhile.
func (s *ZooKeeper) endRegistration(r *zkRegistration) {
	r.timer.Stop()
	s.places.leave(r)
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
