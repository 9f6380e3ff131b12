//go:build linux && !portable_relay

package main

import (
	"fmt"
	"os"
	"regexp"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/relay"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

const (
	// This is what one read from a peer may leave unconsumed, or be answered with:
	// no answer of the switcher is longer than four times what it answers.
	boundMinerRead = stratum.MaxMinerLine + relay.ReadChunk
	boundPoolRead  = stratum.MaxPoolLine + relay.ReadChunk
	boundAnswers   = 4 * boundMinerRead
	boundIdentity  = 4*stratum.MaxMinerLine + 8<<10 // user agent, name, passwords, the session itself

	boundStranger = boundMinerRead + boundAnswers + boundIdentity
	boundWorkers  = maxWorkerBytes + maxWorkers*(256+64) + maxWorkersParams*48 + maxAsked*512
	boundRequests = stratum.MaxRequests + maxHeld + stratum.MaxRequests/3*224 // and an error is held for each
	boundMiner    = boundMinerRead + relay.MaxUnsent + boundPoolRead + boundMinerRead + boundIdentity + boundWorkers + boundRequests
	boundAgent    = 1<<16 + maxRegistered + (1<<16)*64 + (1+maxDrains+1)*maxRegistered + (1+maxDrains+1)*maxAgentShares*8 // 64 bytes for each of 65,536 miners, and what waits on each link
	boundJobs     = stratum.MaxDrainJobs * (2*stratum.MaxJobID + 4)
	boundDrain    = boundPoolRead + relay.MaxUnsent + 2*boundJobs // its own jobs, and those of the link after it
	boundDial     = boundPoolRead + relay.MaxUnsent + 2*maxEarly + stratum.MaxPoolLine
)

// The page has the figures that follow from the code.
func TestMemoryBoundIsDocumented(t *testing.T) {
	text, err := os.ReadFile("docs/reliability.md")
	if err != nil {
		t.Fatal(err)
	}
	kb := func(n int) string { return fmt.Sprintf("%d KB", (n+1023)>>10) }
	for what, n := range map[string]int{
		"before its authorization": boundStranger, "a miner's session": boundMiner, "an agent adds to it": boundAgent,
		"a former link": boundDrain, "a link under preparation": boundDial,
	} {
		row := regexp.MustCompile(`(?m)^\| [^|]*` + what + `[^|]*\| ([0-9]+ KB) \|`).FindSubmatch(text)
		if row == nil {
			t.Errorf("the page has no row %q", what)
		} else if string(row[1]) != kb(n) {
			t.Errorf("%s: the page says %s, the code %s", what, row[1], kb(n))
		}
	}
}
