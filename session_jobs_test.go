package main

import (
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// An agent is told one of the numbers that its shares have room for.
func TestAgentOtherJobID(t *testing.T) {
	agent := newAgentWorkers()
	seen := make(map[string]bool)
	for range lastJobNumber - firstJobNumber + 1 {
		id := string(agent.otherJobID([]byte("3"), func(id []byte) bool { return seen[string(id)] }))
		if n, ok := stratum.JobNumber([]byte(id)); !ok || n < firstJobNumber || seen[id] {
			t.Fatalf("an agent is told job %q", id)
		}
		seen[id] = true
	}
	for _, id := range []string{"3", "256", "x"} {
		if got := agent.otherJobID([]byte(id), func(id []byte) bool { return seen[string(id)] }); got != nil {
			t.Errorf("an agent is told %q for %q", got, id)
		}
	}
}
