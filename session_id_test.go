package main

import (
	"errors"
	"sync"
	"testing"

	"github.com/bits-and-blooms/bitset"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

func newTestIDs(chain stratum.Chain, server uint8) *sessionIDs {
	ids := newSessionIDs(chain.IndexBits(), chain.IndexStep())
	ids.setServerID(server)
	return ids
}

func wantIDs(t *testing.T, ids *sessionIDs, want ...uint32) {
	t.Helper()
	for _, id := range want {
		got, err := ids.allocate()
		if err != nil || got != id {
			t.Errorf("allocate: %08x, %v; want %08x", got, err, id)
		}
	}
}

func TestSessionIDsOfBitcoin(t *testing.T) {
	ids := newTestIDs(stratum.Bitcoin, 0x2a)
	wantIDs(t, ids, 0x2a000080, 0x2a000081, 0x2a000082)
	ids.free(0x2a000081) // not handed out again at once
	wantIDs(t, ids, 0x2a000083)

	ids.setNextIndex(0xfffffe)
	wantIDs(t, ids, 0x2afffffe, 0x2affffff, 0x2a000000, 0x2a000001)
	ids.setNextIndex(0x80) // 80, 82, 83 are in use
	wantIDs(t, ids, 0x2a000081, 0x2a000084)
}

func TestSessionIDsOfDecred(t *testing.T) {
	for _, chain := range []stratum.Chain{stratum.DecredNormal, stratum.DecredGominer} {
		wantIDs(t, newTestIDs(chain, 0xff), 0xff000080, 0xff000081)
	}
}

// Ethereum jumps 256 ahead after each, skips used ones, and wraps at 16 bits.
func TestSessionIDsOfEthereum(t *testing.T) {
	ids := newTestIDs(stratum.Ethereum, 0x12)
	wantIDs(t, ids, 0x120080, 0x120181, 0x120282)
	if err := ids.take(0x120383); err != nil {
		t.Fatal(err)
	}
	wantIDs(t, ids, 0x120384)
	ids.setNextIndex(0xffff)
	wantIDs(t, ids, 0x12ffff, 0x120100)
}

func TestSessionIDsUsedUp(t *testing.T) {
	for _, chain := range []stratum.Chain{stratum.Ethereum, stratum.Bitcoin} {
		ids := newTestIDs(chain, 7)
		bits := uint(16)
		if chain == stratum.Bitcoin {
			bits = 24
			// All but the last are in use already, for time's sake.
			ids.used = bitset.New(1<<24 - 1000).Complement()
			ids.inUse = 1<<24 - 1000
		}
		seen := make(map[uint32]bool)
		for range 1<<bits - int(ids.inUse) {
			id, err := ids.allocate()
			if err != nil {
				t.Fatalf("%v: after %d: %v", chain, len(seen), err)
			}
			if seen[id] || id>>bits != 7 {
				t.Fatalf("%v: %08x, after %d", chain, id, len(seen))
			}
			seen[id] = true
		}
		for range 2 {
			if id, err := ids.allocate(); !errors.Is(err, errSessionIDsUsedUp) {
				t.Fatalf("%v: got %08x, %v from a full allocator", chain, id, err)
			}
		}
		for _, free := range []uint32{7<<bits | (1<<bits - 1), 7 << bits, 7<<bits | 4711} {
			ids.free(free)
			ids.free(free) // has no effect
			wantIDs(t, ids, free)
			if _, err := ids.allocate(); err == nil {
				t.Fatalf("%v: one free ID was given twice", chain)
			}
		}
	}
}

func TestSessionIDsTakeAndFree(t *testing.T) {
	ids := newTestIDs(stratum.Bitcoin, 1)
	take := func(id uint32, ok bool) {
		t.Helper()
		if err := ids.take(id); (err == nil) != ok {
			t.Errorf("take %08x: %v", id, err)
		}
	}
	take(0x01000080, true)
	take(0x01000080, false)
	take(0x01000082, true)
	take(0x02000080, true) // of a former server ID
	take(0x02000080, false)
	wantIDs(t, ids, 0x01000081, 0x01000083)
	ids.free(0x02000080)
	take(0x02000080, true)
	ids.free(0x03000000) // never given
	ids.free(0x01000080)
	ids.free(0x01000080)
	take(0x01000080, true)
	take(0x01000080, false)
}

// IDs in use when the server ID changes stay in use, and are known again if
// the old server ID comes back.
func TestSessionIDsServerIDChange(t *testing.T) {
	ids := newTestIDs(stratum.Bitcoin, 1)
	if ids.server() != 1 {
		t.Fatalf("server ID %d", ids.server())
	}
	wantIDs(t, ids, 0x01000080, 0x01000081)
	ids.setServerID(2)
	wantIDs(t, ids, 0x02000082)
	ids.free(0x01000080)
	ids.setServerID(2)
	ids.setServerID(1)
	ids.setNextIndex(0x80)
	wantIDs(t, ids, 0x01000080, 0x01000082) // 81 is still in use
	ids.free(0x02000082)
	ids.setServerID(2)
	ids.setNextIndex(0x80)
	wantIDs(t, ids, 0x02000080, 0x02000081, 0x02000082)
	if n := len(ids.retired); n != 3 {
		t.Errorf("%d IDs of server 1 are remembered, want 3", n)
	}
}

// With an upgrade, the IDs come before the server ID is known.
func TestSessionIDsTakenBeforeServerID(t *testing.T) {
	ids := newSessionIDs(24, 0)
	for _, id := range []uint32{0x05000080, 0x05000082} {
		if err := ids.take(id); err != nil {
			t.Fatal(err)
		}
	}
	ids.setServerID(5)
	wantIDs(t, ids, 0x05000081, 0x05000083)
}

func TestSessionIDsRace(t *testing.T) {
	ids := newTestIDs(stratum.Ethereum, 1)
	var mu sync.Mutex
	live := make(map[uint32]bool)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 500 {
				id, err := ids.allocate()
				mu.Lock()
				if err != nil || live[id] {
					t.Errorf("%08x, %v: in use already", id, err)
				}
				live[id] = true
				mu.Unlock()
				mu.Lock()
				delete(live, id)
				mu.Unlock()
				ids.free(id)
			}
		})
	}
	all.Wait()
	if ids.inUse != 0 || ids.used.Count() != 0 {
		t.Errorf("%d, by the set %d, still in use", ids.inUse, ids.used.Count())
	}
}

// Session IDs are the server ID above the index, which begins at 128.
func TestSessionBits(t *testing.T) {
	for _, tc := range []struct {
		chain  stratum.Chain
		server uint8
		want   []uint32
	}{
		{stratum.Bitcoin, 1, []uint32{0x01000080, 0x01000081, 0x01000082}},
		{stratum.DecredNormal, 2, []uint32{0x02000080, 0x02000081}},
		{stratum.DecredGominer, 255, []uint32{0xff000080, 0xff000081}},
		{stratum.Ethereum, 1, []uint32{0x010080, 0x010181, 0x010282}},
		{stratum.Ethereum, 255, []uint32{0xff0080, 0xff0181}},
	} {
		ids := newSessionIDs(tc.chain.IndexBits(), tc.chain.IndexStep())
		ids.setServerID(tc.server)
		for _, want := range tc.want {
			if got, err := ids.allocate(); err != nil || got != want {
				t.Errorf("%s server %d: session %08x, %v, want %08x", tc.chain, tc.server, got, err, want)
			}
		}
	}
}

// All Ethereum sessions of a server are different though the index jumps, and
// so are the extranonces.
func TestSessionBitsWrap(t *testing.T) {
	ids := newSessionIDs(stratum.Ethereum.IndexBits(), stratum.Ethereum.IndexStep())
	ids.setServerID(7)
	seen := make(map[string]bool)
	for range 1 << 16 {
		id, err := ids.allocate()
		if err != nil {
			t.Fatalf("after %d: %v", len(seen), err)
		}
		if id>>16 != 7 {
			t.Fatalf("session %08x is not of server 7", id)
		}
		if x := stratum.Ethereum.Extranonce(id); seen[x] {
			t.Fatalf("extranonce %s twice", x)
		} else {
			seen[x] = true
		}
	}
	if id, err := ids.allocate(); err == nil {
		t.Errorf("one more session: %08x", id)
	}
}
