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
			t.Errorf("allocate returned %08x, %v; want %08x", got, err, id)
		}
	}
}

func TestSessionIDsOfBitcoin(t *testing.T) {
	ids := newTestIDs(stratum.Bitcoin, 0x2a)
	wantIDs(t, ids, 0x2a000080, 0x2a000081, 0x2a000082)
	ids.free(0x2a000081) // this ID is not given out again at once
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

// Ethereum's index advances by 256 each time, skips IDs that are in use, and wraps
// at 16 bits.
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
			// To save time, all but the last IDs are already in use.
			ids.used = bitset.New(1<<24 - 1000).Complement()
			ids.inUse = 1<<24 - 1000
		}
		seen := make(map[uint32]bool)
		for range 1<<bits - int(ids.inUse) {
			id, err := ids.allocate()
			if err != nil {
				t.Fatalf("%v: got error %[3]v after %[2]d IDs", chain, len(seen), err)
			}
			if seen[id] || id>>bits != 7 {
				t.Fatalf("%v: got an unexpected ID %08x after %d IDs", chain, id, len(seen))
			}
			seen[id] = true
		}
		for range 2 {
			if id, err := ids.allocate(); !errors.Is(err, errSessionIDsUsedUp) {
				t.Fatalf("%v: a full allocator returned %08x, %v", chain, id, err)
			}
		}
		for _, free := range []uint32{7<<bits | (1<<bits - 1), 7 << bits, 7<<bits | 4711} {
			ids.free(free)
			ids.free(free) // this has no effect
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
			t.Errorf("take(%08x) returned %v", id, err)
		}
	}
	take(0x01000080, true)
	take(0x01000080, false)
	take(0x01000082, true)
	take(0x02000080, true) // an ID of a former server ID
	take(0x02000080, false)
	wantIDs(t, ids, 0x01000081, 0x01000083)
	ids.free(0x02000080)
	take(0x02000080, true)
	ids.free(0x03000000) // this ID was never given out
	ids.free(0x01000080)
	ids.free(0x01000080)
	take(0x01000080, true)
	take(0x01000080, false)
}

// IDs that are in use when the server ID changes stay in use, and are known again
// if the old server ID returns.
func TestSessionIDsServerIDChange(t *testing.T) {
	ids := newTestIDs(stratum.Bitcoin, 1)
	if ids.server() != 1 {
		t.Fatalf("the server ID is %d", ids.server())
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

// At an upgrade, the IDs are taken over before the server ID is known.
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
					t.Errorf("%08x, %v: this ID is already in use", id, err)
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
		t.Errorf("%d IDs, or %d by the set, are still in use", ids.inUse, ids.used.Count())
	}
}

// A session ID is the server ID, followed by the index, which begins at 128.
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

// All Ethereum sessions of a server have different IDs although the index jumps,
// and so do their extranonces.
func TestSessionBitsWrap(t *testing.T) {
	ids := newSessionIDs(stratum.Ethereum.IndexBits(), stratum.Ethereum.IndexStep())
	ids.setServerID(7)
	seen := make(map[string]bool)
	for range 1 << 16 {
		id, err := ids.allocate()
		if err != nil {
			t.Fatalf("got error %[2]v after %[1]d sessions", len(seen), err)
		}
		if id>>16 != 7 {
			t.Fatalf("session %08x does not belong to server 7", id)
		}
		if x := stratum.Ethereum.Extranonce(id); seen[x] {
			t.Fatalf("extranonce %s was given out twice", x)
		} else {
			seen[x] = true
		}
	}
	if id, err := ids.allocate(); err == nil {
		t.Errorf("there was one more session ID, %08x", id)
	}
}
