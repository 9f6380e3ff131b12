//go:build e2e

package zktest

import (
	"slices"
	"strings"
	"testing"
)

func startEnsemble(t *testing.T) *Ensemble {
	t.Helper()
	e, err := StartEnsemble(3)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func TestEnsembleReplicates(t *testing.T) {
	t.Parallel()
	e := startEnsemble(t)
	if _, err := e.Servers[0].CLI("create", "/a", "everywhere"); err != nil {
		t.Fatal(err)
	}
	if err := e.Servers[0].Kill(); err != nil {
		t.Fatal(err)
	}
	if err := e.AwaitServing(); err != nil {
		t.Fatal(err)
	}
	answer, err := e.Servers[1].CLI("get", "/a")
	if err != nil || !strings.Contains(answer, "everywhere") {
		t.Fatalf("got %q, %v", answer, err)
	}
}

// When the leader is killed or hangs, another server leads. The former leader comes
// back as a follower.
func TestEnsembleElects(t *testing.T) {
	t.Parallel()
	e := startEnsemble(t)
	for _, how := range []struct {
		name       string
		begin, end func(*Server) error
	}{
		{"killed", (*Server).Kill, (*Server).Start},
		{"paused", (*Server).Pause, (*Server).Continue},
	} {
		former, err := e.Leader()
		if err != nil {
			t.Fatal(err)
		}
		if err := how.begin(former); err != nil {
			t.Fatal(err)
		}
		now, err := e.Leader()
		if err != nil {
			t.Fatalf("%s: %v", how.name, err)
		}
		if now == former {
			t.Fatalf("%s: the leader still leads", how.name)
		}
		if err := how.end(former); err != nil {
			t.Fatal(err)
		}
		if err := e.AwaitServing(); err != nil {
			t.Fatal(err)
		}
		followers, err := e.Followers()
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(followers, former) {
			t.Errorf("%s: the former leader does not follow", how.name)
		}
	}
}
