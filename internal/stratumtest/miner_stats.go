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
	AuthorizeError string // the refusal
	Extranonce1    string

	Submitted      uint64
	Accepted       uint64
	Rejected       uint64
	RejectedByCode map[int]uint64 // -1: neither true nor a proper error
	LastReject     string
	Late           uint64 // shares submitted for the job before a clean one
	Unanswered     uint64 // shares without an answer now
	OutOfOrder     uint64 // answers that overtook an earlier request's
	Doubled        uint64 // second answers to a request
	Unknown        uint64 // answers to what was never asked

	Jobs           uint64
	CleanJobs      uint64
	LastJob        time.Time
	LastJobID      string
	SetDifficulty  uint64
	LastDifficulty float64
	GrantedMask    uint32 // of the configure answer
	VersionMasks   []uint32
	Extranonces    uint64 // set_extranonce obeyed
	Reconnects     uint64 // client.reconnect received

	Pool      string // the present job's, from the job id
	PoolSince time.Time
	Switches  uint64
	FirstJobs map[string]time.Time // of each pool

	Disconnected   bool // by the other side
	DisconnectedAt time.Time
	Err            string

	// Violations are what a real device would trip over.
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

// Clean reports nothing suspicious: no violation, no rejected share, no answer
// doubled or unknown.
func (s MinerStats) Clean() bool {
	return len(s.Violations) == 0 && s.Rejected == 0 && s.Doubled == 0 && s.Unknown == 0 && !s.Disconnected
}
