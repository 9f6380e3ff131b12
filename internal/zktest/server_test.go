//go:build e2e

package zktest

import (
	"strings"
	"testing"
)

func TestServerKeepsItsDataOverRestarts(t *testing.T) {
	t.Parallel()
	s, err := Start()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.CLI("create", "/a", "first"); err != nil {
		t.Fatal(err)
	}
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	answer, err := s.CLI("get", "/a")
	if err != nil || !strings.Contains(answer, "first") {
		t.Fatalf("got %q, %v", answer, err)
	}
}
