package natural

import (
	"math/rand/v2"
	"testing"
)

func TestCompare(t *testing.T) {
	ordered := []string{
		"", ".", "0", "00", "0a", "1", "2", "10", "99999999999999999999999998", "99999999999999999999999999", "100000000000000000000000000",
		"Alice", "alice", "alice.rig", "alice.rig1", "alice.Rig2", "alice.rig2", "alice.rig2b", "alice.rig10", "alice.rig10.1", "bob", "é",
	}
	for i, a := range ordered {
		for j, b := range ordered {
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			if got := Compare(a, b); got != want {
				t.Errorf("%q and %q: got %d, want %d", a, b, got, want)
			}
		}
	}
	if Compare("rig01", "rig1") == 0 || Compare("rig01", "rig1") != -Compare("rig1", "rig01") || Compare("rig01", "rig2") != -1 {
		t.Error("leading zeros make no difference")
	}
}

// Sorting needs an order without contradictions, whatever miners' names are.
func TestCompareIsAnOrder(t *testing.T) {
	const letters = "0129aAb.-\xff"
	r := rand.New(rand.NewPCG(1, 2))
	name := func() string {
		b := make([]byte, r.IntN(6))
		for i := range b {
			b[i] = letters[r.IntN(len(letters))]
		}
		return string(b)
	}
	for range 200_000 {
		a, b, c := name(), name(), name()
		if Compare(a, b) != -Compare(b, a) || (Compare(a, b) == 0) != (a == b) {
			t.Fatalf("%q and %q are not ordered the other way round when swapped", a, b)
		}
		if Compare(a, b) < 0 && Compare(b, c) < 0 && Compare(a, c) >= 0 {
			t.Fatalf("%q < %q < %q, but the first is not less than the last", a, b, c)
		}
	}
}
