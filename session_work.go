package main

import (
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/hashrate"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// This file reads the difficulties that pools set, and finds the difficulty of a
// share's job. internal/hashrate remembers both.

// minTargetDigits is the smallest number of digits of an Ethereum target. Pools
// leave out leading zeros for old miners. In NiceHash's jobs the same parameter is
// a flag.
const minTargetDigits = 58

// recordDifficulty records the difficulty that the pool of the link in use has set with
// mining.set_difficulty or mining.set_target.
func (s *Session) recordDifficulty(kind stratum.Kind, line []byte) {
	read := hashrate.ParseDifficulty
	switch {
	case kind == stratum.KindTarget && s.manager.chain == stratum.Ethereum:
		read = hashrate.FromEthereumTarget
	case kind == stratum.KindTarget:
		read = hashrate.FromTarget
	}
	s.link.difficultySet = true
	s.link.work.SetDifficulty(read(stratum.ScalarParam(line, 0)), s.now())
}

// recordJobDifficulty records the difficulty that a job brings with it, or the protocol's
// default if the pool has set none. It is called before the job is recorded.
func (s *Session) recordJobDifficulty(line []byte) {
	l := s.link
	if s.manager.chain == stratum.Ethereum {
		if target := stratum.ScalarParam(line, 3); len(target) >= minTargetDigits {
			l.recordTarget(target, s.now())
			return
		}
		if s.subscription.Protocol != stratum.ProtocolEthereumStratum {
			return
		}
	}
	// The default is 1. For agents, pools set the difficulty of each miner with a
	// binary message.
	if !l.difficultySet && s.agent == nil && !l.work.NextKnown() {
		l.work.SetDifficulty(1, s.now())
	}
}

// recordTarget records the target of an Ethereum job, if it is valid.
func (l *link) recordTarget(target []byte, now uint32) {
	if d := hashrate.FromEthereumTarget(target); d.Known() {
		l.work.SetDifficulty(d, now)
	}
}

// generationOf returns the generation of the difficulty with which a share's job was given.
// The job is looked up only if the difficulty has changed recently.
func (l *link) generationOf(line []byte) hashrate.Generation {
	if l.work.Settled() {
		return l.work.Latest()
	}
	at, _, ok := stratum.JobIDSpan(line, 1)
	if !ok {
		return l.work.Latest()
	}
	return l.generationOfJob(stratum.PlainID(line[at.Start:at.End]))
}

func (l *link) generationOfJob(id []byte) hashrate.Generation {
	if g, ok := l.jobs.Generation(id); ok {
		return g
	}
	return l.work.Latest()
}

// recordAgentDifficulty records the difficulty that the pool of the link in use has
// set for some of an agent's miners.
func (s *Session) recordAgentDifficulty(message []byte) {
	if l := s.agent.link(s.link.tag); l != nil {
		l.miners.SetDifficulties(message, s.agent.knows, &s.link.work, s.now())
	}
}

// knows reports whether the agent has registered a miner.
func (w *agentWorkers) knows(session uint16) bool {
	_, ok := w.messages[session]
	return ok
}

// agentDifficulty returns the difficulty of an agent's share for the job that its
// miner knows by this ID.
func (s *Session) agentDifficulty(to *link, session uint16, job []byte) hashrate.Difficulty {
	l := s.agent.link(to.tag)
	if l == nil {
		return hashrate.Unknown
	}
	unit := hashrate.UnitBitcoin
	if s.manager.chain == stratum.Ethereum {
		unit = hashrate.UnitEthereum
	}
	g := to.work.Latest()
	if !l.miners.Settled(session, &to.work) {
		g = to.generationOfJob(job)
	}
	return l.miners.Difficulty(session, g, &to.work, unit)
}

// forgetDifficulties drops the former difficulties that no share needs any more.
func (s *Session) forgetDifficulties() {
	if s.link != nil && !s.link.work.Settled() {
		s.link.work.Sweep(s.now(), s.owes(s.link))
	}
	for _, d := range s.drains {
		if !d.work.Settled() {
			d.work.Sweep(s.now(), d.owes())
		}
	}
}

// unitOf returns the unit in which a miner and its pools count difficulty.
func unitOf(c stratum.Chain, s *stratum.Subscription) hashrate.Unit {
	if c == stratum.Ethereum && (s == nil || s.Protocol != stratum.ProtocolEthereumStratum) {
		return hashrate.UnitEthereum
	}
	return hashrate.UnitBitcoin
}
