package main

import (
	"fmt"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// Which extranonce a new miner gets, and how miners wait for what it depends on: the
// server ID and what pools give.

// extranoncePlan is the shape of the extranonce that new miners get with this
// configuration.
type extranoncePlan struct {
	width int // bytes of the miner's extranonce1; 0 if all miners get the chain's usual shape
	size  int // bytes of extranonce2
}

const (
	// If some pools pick the extranonce and others take the session ID, extranonce1 is
	// the session ID. The miner gets half of the bytes that the latter leave for
	// extranonce2.
	mixedSize = 4
	// If all pools pick the extranonce, the miner's extranonce1 need not be
	// unique. One byte for it and three for extranonce2 fit pools that give 4.
	// sizeSurvey begins with this size.
	poolOnlyWidth = 1
	poolOnlySize  = 3
)

// planExtranonce returns the plan for a configuration. It depends on which pools pick the
// extranonce.
func planExtranonce(c *Config) extranoncePlan {
	ofPool, ofSession := 0, 0
	for _, server := range c.StratumServerMap {
		if server.ExtraNonce == extranonceOfPool {
			ofPool++
		} else {
			ofSession++
		}
	}
	var plan extranoncePlan
	switch {
	case ofPool == 0:
		return plan
	case ofSession > 0:
		plan = extranoncePlan{width: 4, size: mixedSize}
	default:
		plan = extranoncePlan{width: poolOnlyWidth, size: poolOnlySize}
	}
	if c.ExtraNonce2Size > 0 {
		plan.size = c.ExtraNonce2Size
	}
	return plan
}

// sizeWarning returns a warning if some miner programs cannot use the configured
// ExtraNonce2Size, and otherwise an empty string.
func sizeWarning(c *Config) string {
	if planExtranonce(c).width == 0 || c.ExtraNonce2Size == 0 || c.ExtraNonce2Size >= mixedSize {
		return ""
	}
	return fmt.Sprintf("ExtraNonce2Size is %d: some miner programs and marketplaces need 4 or more, see docs/pools.md", c.ExtraNonce2Size)
}

// shapeFor returns the shape of a new session. Agents divide the work among their
// miners in their own way, so they keep the chain's usual shape.
func (p extranoncePlan) shapeFor(id uint32, agent bool) stratum.Shape {
	if p.width == 0 || agent {
		return stratum.Shape{}
	}
	x := fmt.Sprintf("%08x", id)
	return stratum.Shape{Extranonce1: x[8-2*p.width:], Size: p.size}
}

// planNow returns the plan for a session that subscribes now.
func (m *sessionManager) planNow() extranoncePlan {
	plan := m.plan
	if m.sizes != nil {
		plan.size = int(m.sizes.size.Load())
	}
	return plan
}

// serverIDOrWait reports whether the server ID is known. If not, the session is
// woken when it is.
func (m *sessionManager) serverIDOrWait(s *Session) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ids.server() != 0 {
		return true
	}
	m.waitingID[s] = struct{}{}
	return false
}

// sizeOrWait reports whether the size of extranonce2 is known. If not, the session is
// woken when it is. Agents do not need the size.
func (m *sessionManager) sizeOrWait(s *Session, agent bool) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if agent || !m.sizes.minersWait() {
		return true
	}
	m.waitingID[s] = struct{}{}
	return false
}

// ServerIDClaimed implements coins.Sink.
func (m *sessionManager) ServerIDClaimed(id uint8) {
	m.mu.Lock()
	m.ids.setServerID(id)
	m.mu.Unlock()
	m.limitedLog.Infof("server ID", "server_id=%d", id)
	m.wakeWaiting()
}

// wakeWaiting makes the sessions that wait for their extranonce try again.
func (m *sessionManager) wakeWaiting() {
	m.mu.Lock()
	waiting := m.waitingID
	m.waitingID = make(map[*Session]struct{})
	m.mu.Unlock()
	for s := range waiting {
		s.loop.Post(s.extranonceKnown)
	}
}

// extranonceKnown resumes a handshake that was held.
func (s *Session) extranonceKnown() {
	if s.phase == phaseHandshaking && s.handshake.held {
		s.handshake.held = false
		s.miner.Resume()
	}
}
