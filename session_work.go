package main

import (
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/hashrate"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// What a link's pool says of difficulty, and which difficulty a share's job has.
// internal/hashrate remembers it.

// minTargetDigits is how many digits an Ethereum target has at least: pools
// leave out leading zeros for old miners. NiceHash's jobs have a flag there.
const minTargetDigits = 58

// difficultyHeard notes the difficulty that the link's pool has told, by
// mining.set_difficulty or mining.set_target.
func (l *link) difficultyHeard(kind stratum.Kind, line []byte, now uint32) {
	l.heard = true
	value := stratum.ScalarParam(line, 0)
	if kind == stratum.KindTarget {
		l.work.Tell(hashrate.FromTarget(value), now)
		return
	}
	l.work.Tell(hashrate.ParseDifficulty(value), now)
}

// jobHeard notes what a job, or its not having one, says of its difficulty.
// It comes before the job is noted.
func (s *Session) jobHeard(line []byte) {
	l := s.link
	if s.manager.chain == stratum.Ethereum {
		if target := stratum.ScalarParam(line, 3); len(target) >= minTargetDigits {
			l.targetHeard(target, s.now())
			return
		}
		if s.subscription.Protocol != stratum.ProtocolEthereumStratum {
			return
		}
	}
	// The protocols' default is 1. Agents' pools tell each miner's in binary.
	if !l.heard && s.agent == nil && !l.work.Told() {
		l.work.Tell(1, s.now())
	}
}

// targetHeard notes the target of an Ethereum job, if it can be read.
func (l *link) targetHeard(target []byte, now uint32) {
	if d := hashrate.FromEthereumTarget(target); d.Known() {
		l.work.Tell(d, now)
	}
}

// generationOf is what a share for the link has to remember of its job's
// difficulty. Only after a change the job is looked for.
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

// agentDifficultyHeard notes the difficulty that the pool of the link in use has
// told an agent for some of its miners.
func (s *Session) agentDifficultyHeard(message []byte) {
	if l := s.agent.link(s.link.tag); l != nil {
		l.miners.Tell(message, s.agent.knows, &s.link.work, s.now())
	}
}

// knows reports whether the agent has registered a miner.
func (w *agentWorkers) knows(session uint16) bool {
	_, ok := w.messages[session]
	return ok
}

// agentDifficulty is that of an agent's share for the job that its miner knows by
// this ID.
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

// forgetDifficulties drops former difficulties that no share can need any more.
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

// unitOf is what a miner and its pools mean by difficulty 1.
func unitOf(c stratum.Chain, s *stratum.Subscription) hashrate.Unit {
	if c == stratum.Ethereum && (s == nil || s.Protocol != stratum.ProtocolEthereumStratum) {
		return hashrate.UnitEthereum
	}
	return hashrate.UnitBitcoin
}
