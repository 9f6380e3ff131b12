package stratumtest

import (
	"maps"
	"slices"
	"time"
)

// MinerStats is a snapshot of what a miner has seen.
type MinerStats struct {
	Authorized     bool
	AuthorizedAt   time.Time
	AuthorizeError string // the pool's refusal
	Extranonce1    string

	Submitted      uint64
	Accepted       uint64
	Rejected       uint64
	RejectedByCode map[int]uint64 // -1 counts answers that are neither true nor a proper error
	LastReject     string
	Late           uint64 // shares submitted for the job that a clean job replaced
	Unanswered     uint64 // shares that are unanswered now
	OutOfOrder     uint64 // answers that overtook the answer to an earlier request
	Doubled        uint64 // second answers to a request
	Unknown        uint64 // answers to requests that were never sent

	Jobs           uint64
	CleanJobs      uint64
	LastJob        time.Time
	LastJobID      string
	SetDifficulty  uint64
	LastDifficulty float64
	GrantedMask    uint32 // mask in the answer to configure
	VersionMasks   []uint32
	Extranonces    uint64 // mining.set_extranonce messages obeyed
	Reconnects     uint64 // client.reconnect messages received

	Pool      string // pool of the current job, according to the job's ID
	PoolSince time.Time
	Switches  uint64
	FirstJobs map[string]time.Time // time of the first job from each pool

	Disconnected   bool // whether the other side ended the connection
	DisconnectedAt time.Time
	Err            string

	// Violations describes messages that a real device could not handle.
	Violations []string

	unanswered int64
	lastShare  time.Time
}

// Stats returns a snapshot.
func (m *Miner) Stats() MinerStats {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.stats
	s.Unanswered = uint64(max(0, s.unanswered))
	s.RejectedByCode = maps.Clone(s.RejectedByCode)
	s.VersionMasks = slices.Clone(s.VersionMasks)
	s.FirstJobs = maps.Clone(s.FirstJobs)
	s.Violations = slices.Clone(s.Violations)
	return s
}

// Clean reports whether the miner is connected and has seen no violation, no rejected
// share, and no doubled or unknown answer.
func (s MinerStats) Clean() bool {
	return len(s.Violations) == 0 && s.Rejected == 0 && s.Doubled == 0 && s.Unknown == 0 && !s.Disconnected
}
