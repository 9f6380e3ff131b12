//go:build linux && !portable_relay

package main

import (
	"fmt"
	"os"
	"regexp"
	"testing"
)

// What one read of a peer may leave unconsumed, or be answered with: no
// answer of the switcher is longer than four times what it answers.
const boundMinerRead = maxMinerLine + readChunk

const boundPoolRead = maxPoolLine + readChunk

const boundAnswers = 4 * boundMinerRead

const boundIdentity = 4*maxMinerLine + 8<<10 // user agent, name, passwords, the session itself

const boundStranger = boundMinerRead + boundAnswers + boundIdentity

const boundWorkers = maxWorkerBytes + maxWorkers*(256+64) + maxWorkersParams*48

const boundRequests = maxRequests + maxHeld + maxRequests/3*224 // and an error held for each

const boundMiner = boundMinerRead + maxUnsent + boundPoolRead + boundMinerRead + boundIdentity + boundWorkers + boundRequests

const boundAgent = 1<<16 + maxRegistered + (1<<16)*64 + (1+maxDrains+1)*maxBulk + (1+maxDrains+1)*maxAgentShares*8 // 64 bytes for each of 65,536 miners; and what waits on each link

const boundJobs = maxDrainJobs * (2*maxJobID + 4)

const boundDrain = boundPoolRead + maxUnsent + 2*boundJobs // its own, and those of the link after it

const boundDial = boundPoolRead + maxUnsent + 2*maxEarly + maxPoolLine

// The document has the figures that the code makes.
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
			t.Errorf("no row %q", what)
		} else if string(row[1]) != kb(n) {
			t.Errorf("%s: %s in the document, %s by the code", what, row[1], kb(n))
		}
	}
}
