package stratumtest

import (
	"fmt"
	"sync/atomic"
	"time"
)

// These limit how much a pool stores.
const (
	maxRejects = 200
	maxFaults  = 200
	maxNames   = 20000
	maxLines   = 200000
)

// PoolStats is a snapshot of a pool's counters.
type PoolStats struct {
	Connections      int // connections that are open
	ConnectionsTotal int
	Ready            int // open connections that have finished the handshake
	Handshakes       int // handshakes finished so far
	Refused          int // authorize requests that were refused
	Accepted         uint64
	Work             float64 // sum of the difficulties of the accepted shares' jobs
	Rejected         uint64
	RejectedByCode   map[int]uint64
	Submits          uint64

	DuplicateExtranonces int // times that two live connections had the same extranonce
	Faults               int // protocol violations by the other side; see Pool.Faults

	AgentMessages uint64
	AgentWorkers  int // workers that are registered
	AgentAccepted uint64
	AgentRejected uint64 // shares that were refused, or whose session ID is not registered

	LastSeq uint64 // number of the latest job, which is the number of jobs made
}

// Reject is one rejected share.
type Reject struct {
	Time       time.Time
	Connection int
	Code       int
	Reason     string
	Line       string // the line as received
}

// ConnInfo describes one open connection.
type ConnInfo struct {
	ID          int
	Remote      string
	UserAgent   string
	Subscribe   string // parameters as received
	Extranonce  string // taken from the subscribe parameters, or assigned by the pool
	Workers     []string
	VersionMask uint32
	Accepted    uint64
	Rejected    uint64
}

type workerCount struct{ accepted, rejected atomic.Uint64 }

// The pool counts rejections by standard error code, from firstCode to lastCode.
const firstCode, lastCode = 20, 25

type poolCounters struct {
	connections, connectionsTotal, ready atomic.Int64
	handshakes, refused                  atomic.Int64
	submits, accepted                    atomic.Uint64
	acceptedOf                           [257]atomic.Uint64 // by the zero bits of the job
	rejected                             [lastCode - firstCode + 1]atomic.Uint64
	duplicateExtranonces, faults         atomic.Int64
	agentMessages                        atomic.Uint64
	agentWorkers                         atomic.Int64
	agentAccepted, agentRejected         atomic.Uint64
}

// poolLog holds the events that a pool stores in full. Pool.mu guards it.
type poolLog struct {
	lines      []string
	subscribes []string
	authorized []string
	refused    []string
	rejects    []Reject
	faults     []string
}

// Stats returns the counters.
func (p *Pool) Stats() PoolStats {
	n := &p.count
	s := PoolStats{
		Connections:          int(n.connections.Load()),
		ConnectionsTotal:     int(n.connectionsTotal.Load()),
		Ready:                int(n.ready.Load()),
		Handshakes:           int(n.handshakes.Load()),
		Refused:              int(n.refused.Load()),
		Accepted:             n.accepted.Load(),
		Submits:              n.submits.Load(),
		RejectedByCode:       map[int]uint64{},
		DuplicateExtranonces: int(n.duplicateExtranonces.Load()),
		Faults:               int(n.faults.Load()),
		AgentMessages:        n.agentMessages.Load(),
		AgentWorkers:         int(n.agentWorkers.Load()),
		AgentAccepted:        n.agentAccepted.Load(),
		AgentRejected:        n.agentRejected.Load(),
	}
	for i := range n.rejected {
		if r := n.rejected[i].Load(); r > 0 {
			s.RejectedByCode[firstCode+i] = r
			s.Rejected += r
		}
	}
	for bits := range n.acceptedOf {
		if a := n.acceptedOf[bits].Load(); a > 0 {
			s.Work += float64(a) * DifficultyOfBits(bits)
		}
	}
	p.jobs.mu.RLock()
	s.LastSeq = p.jobs.lastSeq
	p.jobs.mu.RUnlock()
	return s
}

// Workers returns the number of accepted shares of each worker that was ever authorized.
func (p *Pool) Workers() map[string]uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := make(map[string]uint64, len(p.workers))
	for name, n := range p.workers {
		m[name] = n.accepted.Load()
	}
	return m
}

// Conns describes the open connections, oldest first.
func (p *Pool) Conns() []ConnInfo {
	var list []ConnInfo
	for _, c := range p.connections() {
		list = append(list, c.describe())
	}
	return list
}

// Lines returns the lines received so far if RecordLines is set. An agent's binary
// message appears as "7f:" and its bytes in hex.
func (p *Pool) Lines() []string { return p.logged(&p.log.lines) }

// Subscribes returns the parameters of each mining.subscribe, as received.
func (p *Pool) Subscribes() []string { return p.logged(&p.log.subscribes) }

// Authorized returns the names of the accepted workers in order.
func (p *Pool) Authorized() []string { return p.logged(&p.log.authorized) }

// RefusedNames returns the names of the refused workers in order.
func (p *Pool) RefusedNames() []string { return p.logged(&p.log.refused) }

// Faults returns descriptions of the other side's protocol violations.
func (p *Pool) Faults() []string { return p.logged(&p.log.faults) }

// Rejects returns the most recently rejected shares.
func (p *Pool) Rejects() []Reject {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Reject(nil), p.log.rejects...)
}

func (p *Pool) logged(list *[]string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), *list...)
}

func (p *Pool) note(list *[]string, limit int, text string) {
	p.mu.Lock()
	if len(*list) < limit {
		*list = append(*list, text)
	}
	p.mu.Unlock()
}

func (p *Pool) fault(c *poolConn, format string, args ...any) {
	// The text is stored first, because a caller that waits for the count reads it next.
	p.note(&p.log.faults, maxFaults, fmt.Sprintf("connection %d: ", c.id)+fmt.Sprintf(format, args...))
	p.count.faults.Add(1)
	p.watch.notify()
}

func (p *Pool) noteReject(r Reject) {
	p.mu.Lock()
	if len(p.log.rejects) == maxRejects {
		p.log.rejects = append(p.log.rejects[:0], p.log.rejects[1:]...)
	}
	p.log.rejects = append(p.log.rejects, r)
	p.mu.Unlock()
}
