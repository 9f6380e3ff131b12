package main

import (
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// An agent gets one of the numbers for which its shares have room.
func TestAgentOtherJobID(t *testing.T) {
	agent := newAgentWorkers()
	seen := make(map[string]bool)
	for range lastJobNumber - firstJobNumber + 1 {
		id := string(agent.otherJobID([]byte("3"), func(id []byte) bool { return seen[string(id)] }))
		if n, ok := stratum.JobNumber([]byte(id)); !ok || n < firstJobNumber || seen[id] {
			t.Fatalf("an agent gets job ID %q", id)
		}
		seen[id] = true
	}
	for _, id := range []string{"3", "256", "x"} {
		if got := agent.otherJobID([]byte(id), func(id []byte) bool { return seen[string(id)] }); got != nil {
			t.Errorf("an agent gets job ID %q for %q", got, id)
		}
	}
}
