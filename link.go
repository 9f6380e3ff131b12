package main

import (
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/hashrate"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/relay"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// link is an established connection to a pool and everything that holds for it
// alone: how lines are changed on the way, which requests the switcher itself
// has sent, and which jobs the pool has given the miner.
//
// A session has one link in use, Session.link. The next link is made by
// poolLink and linkReady. The former one then either ends or becomes part of a
// drain, with nothing copied. A link whose connection is lost keeps all but its
// socket, because the miner still has shares for its jobs.
//
// It belongs to its session's loop. Whoever sets socket to nil closes it.
type link struct {
	pool          *pool
	address       *poolAddress  // nil if the previous process did not hand it over
	socket        *relay.Socket // nil if the connection is lost
	tag           stratum.LinkTag
	suffixed      bool       // the pool knows the workers by names with its suffix
	difficultySet bool       // the pool has set a difficulty, or may have set one before an upgrade
	restJobs      bool       // see jobs
	jobSeen       uint32     // when the last job came, by the manager's clock; only valid while the link is in use
	rules         *lineRules // nil if lines pass unchanged
	ownRequests   stratum.OwnRequests

	// jobs are the latest jobs that the pool gave. restJobs means that jobs that are
	// in no list came from this link, because it was the only one then.
	jobs stratum.JobTable
	work hashrate.Link // the difficulties of jobs

	// The following fields are only used while the link is in use.

	endpoint *endpoint // the IP address and port that the link leads to, or led to until it was lost
	trial    *attempt  // nil once the link is stable

	// difficultyDue runs until the pool sets a difficulty, if the miner needs one;
	// see awaitDifficulty.
	difficultyDue *relay.Timer
}

// firstTag is the tag of a session's first link.
const firstTag stratum.LinkTag = 1

// newLink makes the link in use out of a prepared one.
func (s *Session) newLink(k *poolLink) *link {
	n := &link{
		pool: k.pool, address: k.address, socket: k.socket, suffixed: k.suffixed, rules: k.rules, ownRequests: k.unanswered(),
		tag:      firstTag,
		endpoint: k.attempt.at, trial: k.attempt, jobSeen: s.manager.clock(),
	}
	if s.link != nil {
		n.tag = s.link.tag + 1
	}
	return n
}

// open reports whether the link has a connection. It is false on nil, which is
// what a session has before its first link.
func (l *link) open() bool { return l != nil && l.socket != nil }

// leads reports whether sock is the link's connection.
func (l *link) leads(sock *relay.Socket) bool { return l.open() && l.socket == sock }

// where returns the text of the link's address, or an empty string if the address is
// not known.
func (l *link) where() string {
	if l.address == nil {
		return ""
	}
	return l.address.text
}

// leadsTo reports whether the link goes to an address of p. For a link taken
// over from the previous process, only the pool may be known.
func (l *link) leadsTo(p *pool, a *poolAddress) bool {
	return l.address == a || l.address == nil && l.pool == p
}

// disconnect ends the connection. If the pool still has shares to answer
// (sharesOwed), it closes the connection in the ordinary way. Otherwise it
// resets it, which frees the local port at once but may keep the pool from
// reading the last bytes.
func (l *link) disconnect(sharesOwed bool) {
	if !l.open() {
		return
	}
	if sharesOwed {
		l.socket.Close()
	} else {
		l.socket.Reset()
	}
	l.socket = nil
}

// pool returns the pool where the miner mines, or mined last. It is nil before the
// first link.
func (s *Session) pool() *pool {
	if s.link == nil {
		return nil
	}
	return s.link.pool
}

// owes reports whether the link's pool has yet to answer shares. Other requests do not
// count, because some pools never answer them.
func (s *Session) owes(l *link) bool {
	return s.agent.owes(l.tag) || s.requests.Shares(l.tag) > 0
}

// mayOwe is like owes, for a link that is about to be disconnected. It is also true for
// an agent that did not ask for answers to its binary shares, because then nobody knows
// whether the pool has taken them all.
func (s *Session) mayOwe(l *link) bool {
	return s.agent != nil && !s.agent.wantsAnswers || s.owes(l)
}

// linkTagged returns the former link with this tag, or else the link in use.
func (s *Session) linkTagged(tag stratum.LinkTag) *link {
	for _, d := range s.drains {
		if d.tag == tag {
			return d.link
		}
	}
	return s.link
}
