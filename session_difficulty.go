package main

import (
	"strconv"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// difficultyGrace is how long after a link has become the one in use its pool may take
// to set the difficulty.
const difficultyGrace = time.Second

// awaitDifficulty makes sure that a miner does not keep the difficulty of its
// previous link if the new pool sets none. It then gets difficulty 1, the protocol's
// default. A miner's first link does not need this, because every miner begins with
// 1. Agents get the difficulty of each of their miners in binary messages, and
// Ethereum's protocols have no such default.
func (s *Session) awaitDifficulty() {
	if s.agent != nil || s.manager.chain == stratum.Ethereum {
		return
	}
	s.link.difficultyDue = s.loop.After(s.manager.timing.difficultyGrace, func() {
		s.link.difficultyDue = nil
		s.link.work.SetDifficulty(1, s.now())
		s.miner.Write([]byte(`{"id":null,"method":"mining.set_difficulty","params":[1]}` + "\n"))
	})
}

// stopAwaitingDifficulty stops the timer of awaitDifficulty, because the pool has set a
// difficulty or the link is no longer in use.
func (s *Session) stopAwaitingDifficulty() {
	if s.link != nil {
		s.loop.StopTimer(s.link.difficultyDue)
		s.link.difficultyDue = nil
	}
}

// setsDifficulty reports whether a mining.set_difficulty or mining.set_target sets anything.
// Miners ignore a line without a difficulty, or with one that is not positive. Strings that
// are not decimal numbers count, because some miners may understand them.
func setsDifficulty(kind stratum.Kind, line []byte) bool {
	param := stratum.ScalarParam(line, 0)
	if len(param) == 0 || kind != stratum.KindDifficulty {
		return len(param) > 0
	}
	v, err := strconv.ParseFloat(string(param), 64)
	return err != nil || v > 0
}
