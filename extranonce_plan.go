package main

import (
	"fmt"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// extranoncePlan is which shape new miners get, by the configuration.
type extranoncePlan struct {
	width int // bytes of X; 0: the chain's own shape
	size  int
}

const (
	// With pools of both kinds X stays the session ID, and half of what
	// session pools count in is left for the miner.
	mixedSize = 4
	// With pools that pick their own extranonce only, X need not tell miners
	// apart: one byte for X and three for the miner fit pools that give 4. The
	// size is what sizeSurvey begins with.
	poolOnlyWidth = 1
	poolOnlySize  = 3
)

// planExtranonce decides by the pools' kinds.
func planExtranonce(c *Config) extranoncePlan {
	own, session := 0, 0
	for _, server := range c.StratumServerMap {
		if server.ExtraNonce == extranonceOfPool {
			own++
		} else {
			session++
		}
	}
	var plan extranoncePlan
	switch {
	case own == 0:
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

// sizeWarning is about a configured size that not every miner can count in;
// empty if there is nothing to say.
func sizeWarning(c *Config) string {
	if planExtranonce(c).width == 0 || c.ExtraNonce2Size == 0 || c.ExtraNonce2Size >= mixedSize {
		return ""
	}
	return fmt.Sprintf("ExtraNonce2Size is %d: some miner programs and marketplaces need 4 or more, see docs/pools.md", c.ExtraNonce2Size)
}

// shapeFor is the shape of a new session. Agents have their own way of dividing
// the work among their miners and keep the chain's.
func (p extranoncePlan) shapeFor(id uint32, agent bool) stratum.Shape {
	if p.width == 0 || agent {
		return stratum.Shape{}
	}
	x := fmt.Sprintf("%08x", id)
	return stratum.Shape{X: x[8-2*p.width:], Size: p.size}
}
