package main

import (
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// difficultyGrace is how long a pool may take to tell the difficulty after the
// first job of a link.
const difficultyGrace = time.Second

// awaitDifficulty sees that a miner that comes from another link is not left at
// that one's difficulty, if its new pool tells none: by the protocol that is 1.
// A miner's first link needs nothing, because 1 is where every miner begins.
// Agents get the difficulty of each of their miners by binary messages, and
// Ethereum's protocols have no such default.
func (s *Session) awaitDifficulty() {
	if s.agent != nil || s.manager.chain == stratum.Ethereum {
		return
	}
	s.link.difficultyDue = s.loop.After(difficultyGrace, func() {
		s.link.difficultyDue = nil
		s.link.work.Tell(1, s.now())
		s.miner.Write([]byte(`{"id":null,"method":"mining.set_difficulty","params":[1]}` + "\n"))
	})
}

// difficultyTold ends that, as the link in use has told one or is in use no
// more.
func (s *Session) difficultyTold() {
	if s.link != nil {
		s.loop.StopTimer(s.link.difficultyDue)
		s.link.difficultyDue = nil
	}
}
