package main

import (
	"fmt"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// extranoncePlan says which extranonce shape new miners get with this
// configuration.
type extranoncePlan struct {
	width int // bytes of the miner's extranonce1; 0: all miners get the chain's usual shape
	size  int // bytes of extranonce2
}

const (
	// With pools of both kinds, extranonce1 stays the session ID. The miner gets
	// half of the bytes that session pools leave for extranonce2.
	mixedSize = 4
	// If all pools pick the extranonce, the miner's extranonce1 need not be
	// unique. One byte for it and three for extranonce2 fit pools that give 4.
	// sizeSurvey begins with this size.
	poolOnlyWidth = 1
	poolOnlySize  = 3
)

// planExtranonce decides according to who picks the extranonce at each pool.
func planExtranonce(c *Config) extranoncePlan {
	picked, session := 0, 0
	for _, server := range c.StratumServerMap {
		if server.ExtraNonce == extranonceOfPool {
			picked++
		} else {
			session++
		}
	}
	var plan extranoncePlan
	switch {
	case picked == 0:
		return plan
	case session > 0:
		plan = extranoncePlan{width: 4, size: mixedSize}
	default:
		plan = extranoncePlan{width: poolOnlyWidth, size: poolOnlySize}
	}
	if c.ExtraNonce2Size > 0 {
		plan.size = c.ExtraNonce2Size
	}
	return plan
}

// sizeWarning warns of a configured size that some miner programs cannot use. It
// returns an empty string if there is nothing to warn of.
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
