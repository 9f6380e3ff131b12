package main

import (
	"errors"
	"fmt"
	"sync"

	"github.com/bits-and-blooms/bitset"
)

// firstSessionIndex is the index of the first session of a fresh server.
const firstSessionIndex = 128

var errSessionIDsUsedUp = errors.New("all session IDs of this server are in use")

// sessionIDs allocates session IDs: serverID << IndexBits | index. The ID is the miner's
// extranonce, so no two sessions that exist at a time may have the same one, on all
// servers together (docs/protocol.md, "Session ID and extranonce").
type sessionIDs struct {
	indexBits uint
	step      uint // how many indexes are skipped after an allocated one

	mu       sync.Mutex
	serverID uint8
	used     *bitset.BitSet      // by index; as long as the highest index that was ever in use needs
	next     uint                // the index at which the next search starts
	inUse    uint                // how many indexes are in use
	retired  map[uint32]struct{} // IDs in use under a former server ID
}

// newSessionIDs returns an allocator for a chain. On Ethereum, 256 IDs are skipped after
// each one, so that clients that use only 2 bytes of the extranonce share little work.
func newSessionIDs(indexBits, step uint) *sessionIDs {
	return &sessionIDs{
		indexBits: indexBits,
		step:      step,
		used:      bitset.New(0),
		next:      firstSessionIndex,
		retired:   make(map[uint32]struct{}),
	}
}

// setServerID sets the server ID of all further session IDs. Existing sessions keep their
// session IDs.
func (a *sessionIDs) setServerID(id uint8) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.serverID == id {
		return
	}
	if a.serverID != 0 {
		for i, ok := a.used.NextSet(0); ok; i, ok = a.used.NextSet(i + 1) {
			a.retired[a.compose(a.serverID, i)] = struct{}{}
		}
		a.used.ClearAll()
		a.inUse = 0
	}
	a.serverID = id
	for full := range a.retired {
		if uint8(full>>a.indexBits) == id {
			a.used.Set(uint(full) & a.mask())
			a.inUse++
			delete(a.retired, full)
		}
	}
}

// server returns the server ID, or 0 while none is known.
func (a *sessionIDs) server() uint8 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.serverID
}

func (a *sessionIDs) mask() uint { return 1<<a.indexBits - 1 }

func (a *sessionIDs) compose(server uint8, index uint) uint32 {
	return uint32(server)<<a.indexBits | uint32(index)
}

// allocate returns a free ID. It searches upwards from the last one, and then from 0.
func (a *sessionIDs) allocate() (uint32, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.inUse > a.mask() {
		return 0, errSessionIDsUsedUp
	}
	index := a.next & a.mask()
	if index < a.used.Len() {
		if free, ok := a.used.NextClear(index); ok {
			index = free
		} else {
			index = a.used.Len()
		}
		if index > a.mask() {
			index, _ = a.used.NextClear(0)
		}
	}
	a.used.Set(index)
	a.inUse++
	a.next = index + 1 + a.step
	return a.compose(a.serverID, index), nil
}

// take marks the ID of a session that was taken over from a former process as used.
func (a *sessionIDs) take(id uint32) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if uint8(id>>a.indexBits) != a.serverID {
		if _, ok := a.retired[id]; ok {
			return fmt.Errorf("session ID %08x is in use", id)
		}
		a.retired[id] = struct{}{}
		return nil
	}
	index := uint(id) & a.mask()
	if a.used.Test(index) {
		return fmt.Errorf("session ID %08x is in use", id)
	}
	a.used.Set(index)
	a.inUse++
	return nil
}

// free makes an ID available again.
func (a *sessionIDs) free(id uint32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if uint8(id>>a.indexBits) != a.serverID {
		delete(a.retired, id)
		return
	}
	if index := uint(id) & a.mask(); a.used.Test(index) {
		a.used.Clear(index)
		a.inUse--
	}
}

// nextIndex and setNextIndex carry the start of the next search through an upgrade, so
// that IDs that were freed a moment ago are not allocated again at once.
func (a *sessionIDs) nextIndex() uint {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.next
}

func (a *sessionIDs) setNextIndex(next uint) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.next = max(next, firstSessionIndex) & a.mask()
}
