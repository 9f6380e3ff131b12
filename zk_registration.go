package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"time"

	"github.com/golang/glog"
)

// zkRegistrationPoll is how often the coin of an account that waits for its
// registration is looked at. A watch on the absent node would stay in the
// client and the broker for ever if the registration came to nothing.
const zkRegistrationPoll = time.Second

// zkRegPhase is how far a registration is.
type zkRegPhase int

const (
	// regCreating: the request node is to be created.
	regCreating zkRegPhase = iota
	// regWaiting: it is there, until the registration service deletes it.
	regWaiting
	// regRemoving: nobody waits any more, the node is to be deleted.
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

// zkRegistration is an unknown account's way to being known. It belongs to
// the source's owner goroutine.
type zkRegistration struct {
	account *zkAccount
	path    string
	value   []byte
	phase   zkRegPhase
	// tried: creation was begun, so the node may be ours.
	tried bool
	// owned: this process created the node.
	owned bool
	// gone: the registration service deleted the node.
	gone bool
	// busy: a worker is at it; again: look once more when it is done.
	busy  bool
	again bool
	timer *time.Timer
}

// zkRegRequest is the content of a request node.
type zkRegRequest struct {
	SessionID uint32
	Worker    string
}

// register begins the registration of an account somebody waits for.
func (s *zkCoinSource) register(a *zkAccount) {
	waiting := 0
	for _, r := range s.registrations {
		if r.phase != regRemoving {
			waiting++
		}
	}
	if waiting >= s.opts.AutoRegMaxWait {
		s.answerAll(a, errRegistrationBusy)
		return
	}
	var request zkRegRequest
	for q := range a.waiting {
		request = zkRegRequest{q.SessionID, q.Worker}
		break
	}
	value, err := json.Marshal(request)
	if err != nil {
		glog.Errorf("zookeeper: registration of %s: %v", a.name, err)
		s.answerAll(a, errUnknownSubAccount)
		return
	}
	r := &zkRegistration{account: a, path: s.opts.AutoRegDir + a.name, value: value}
	r.timer = s.after(s.opts.AutoRegTimeout, func() { s.registrationTimedOut(r) })
	a.registration = r
	s.registrations[a.name] = r
	s.advance(r)
}

// advance does what is next for a registration.
func (s *zkCoinSource) advance(r *zkRegistration) {
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

// createRequest creates the request node and says if it is ours: another
// instance may have created it for the same account. tried: so may we have,
// in a request whose answer was lost.
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
		return false, nil // served meanwhile
	}
	return bytes.Equal(node.Value, value), err
}

// removeRequest deletes the request node if it still is the one we created.
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

func (s *zkCoinSource) requestCreated(r *zkRegistration, owned bool, err error) {
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
		s.answerAll(r.account, errBadSubAccount)
		s.endRegistration(r)
	default:
		s.registrationFailed(r, err)
	}
}

func (s *zkCoinSource) requestRead(r *zkRegistration, err error) {
	switch {
	case err == nil:
		// Still there; its watch will tell.
	case errors.Is(err, errZKNoNode):
		r.gone = true
		s.readCoin(r.account)
	default:
		s.registrationFailed(r, err)
	}
}

func (s *zkCoinSource) requestRemoved(r *zkRegistration, err error) {
	switch {
	case err == nil, errors.Is(err, errZKNoNode):
		s.endRegistration(r)
	default:
		s.registrationFailed(r, err)
	}
}

// registrationFailed tries the same step again, at once after a reconnect.
func (s *zkCoinSource) registrationFailed(r *zkRegistration, err error) {
	wait := zkRetryWait
	if !errors.Is(err, errZKAway) {
		glog.Errorf("zookeeper: registration, %v of %s: %v", r.phase, r.path, err)
		wait = zkRefusedWait
	}
	if s.connected {
		s.after(wait, func() { s.advance(r) })
	}
}

// pollCoin looks if the coin is there already, though the request still is.
func (s *zkCoinSource) pollCoin(r *zkRegistration) {
	s.after(zkRegistrationPoll, func() {
		if s.registrations[r.account.name] != r || r.phase != regWaiting {
			return
		}
		s.readCoin(r.account)
		s.pollCoin(r)
	})
}

func (s *zkCoinSource) registrationTimedOut(r *zkRegistration) {
	if s.registrations[r.account.name] != r || r.phase == regRemoving {
		return
	}
	glog.Warningf("zookeeper: %s was not registered within %v", r.account.name, s.opts.AutoRegTimeout)
	s.answerAll(r.account, errRegistrationTimeout)
}

// abandon ends a registration that was not served; a node we created for it
// must not stay behind.
func (s *zkCoinSource) abandon(r *zkRegistration) {
	r.timer.Stop()
	if r.phase == regRemoving {
		return
	}
	if r.gone || !r.owned && !r.tried || r.phase == regWaiting && !r.owned {
		s.endRegistration(r)
		return
	}
	r.phase = regRemoving
	s.advance(r)
}

// endRegistration forgets it and goes on with those that asked for the
// account meanwhile.
func (s *zkCoinSource) endRegistration(r *zkRegistration) {
	r.timer.Stop()
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
