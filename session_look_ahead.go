package main

import (
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// Some miners send mining.extranonce.subscribe or mining.configure directly after
// mining.authorize. The miner is not read while its first pool link is prepared, nor while
// a lost link is replaced, so these lines wait in the kernel. The link should take account
// of them all the same, so the session peeks at them.

// maxLookAhead bounds how many of the waiting bytes are looked at.
const maxLookAhead = 4096

// lookAhead peeks at the lines that wait in the kernel while the miner has no link. They
// are answered later, when they are read.
func (s *Session) lookAhead() {
	reconnecting := s.phase == phaseReconnecting
	if s.phase != phaseRouting && !reconnecting || s.agent != nil {
		return
	}
	for rest := s.miner.Peek(maxLookAhead); ; {
		line := stratum.NextLine(rest)
		if line == nil {
			return
		}
		rest = rest[len(line):]
		switch string(stratum.LineMethod(line)) {
		case "mining.extranonce.subscribe":
			s.wantsExtranonce = true
		case "mining.configure":
			if r, err := stratum.ParseRequest(line); err == nil && s.askedMask == 0 {
				s.noteConfigure(r)
				s.configureAhead = s.askedMask != 0
			}
		case "mining.suggest_difficulty", "mining.suggest_target":
			// When it is read, it goes to the pool like any other request. It is noted
			// here so that the pool is not sent an older one first.
			if r, err := stratum.ParseRequest(line); err == nil && reconnecting {
				s.remember(r)
			}
		}
	}
}
