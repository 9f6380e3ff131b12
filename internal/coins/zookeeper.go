package coins

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang/glog"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/journal"
)

const (
	// zkWorkers is how many requests are made at the same time.
	zkWorkers = 16
	// zkRetryWait is the pause before a failed request is repeated.
	zkRetryWait = 200 * time.Millisecond
	// zkRefusedWait is the pause if the broker itself refused the request. The pauses
	// for sub-accounts' nodes grow (see readFailed).
	zkRefusedWait = 3 * time.Second

	// zkCloseWait is how long Close waits for the requests in progress.
	zkCloseWait = time.Second

	// Without a connection, a warning is logged after zkFirstWarning and then after
	// pauses that grow up to zkLastWarning.
	zkFirstWarning = 3 * time.Second
	zkLastWarning  = 10 * time.Minute
)

// Status describes a ZooKeeper source for its operator.
type Status struct {
	Connected bool
	// LastContact is when a broker last answered. It is zero if none ever did.
	LastContact time.Time
	// Watches counts the watches that are set.
	Watches int
	// Missed counts the changes that no watch has reported.
	Missed int64
	// Unreadable counts the sub-accounts' nodes that cannot be read.
	Unreadable int64
	// IDTaken means that another process holds the fixed server ID.
	IDTaken bool
}

// ZooKeeper is the Source for operators with ZooKeeper. Coins, server IDs, the case
// index and the requests for registration are nodes there (docs/protocol.md).
//
// The goroutine runOwner owns all state and never waits for the broker. Requests are
// made by a few workers, which post to the owner what it has to do next.
type ZooKeeper struct {
	opts     ZooKeeperOptions
	metadata []byte
	sink     Sink
	queries  openQueries
	mail     *mailbox
	stop     chan struct{}
	// limitedLog is for log lines that ZooKeeper or miners can cause.
	limitedLog journal.LogLimits
	ended      sync.WaitGroup

	lifeMu sync.Mutex
	closed bool
	conn   *zkConn // nil until Start, then never changed
	// status is the same as conn. It is for Status and Entries, which must not wait for
	// lifeMu while Close holds it.
	status atomic.Pointer[zkConn]

	idMu    sync.Mutex
	idPath  string
	idOwner int64
	// idClaims are the sessions that have tried to own the node since its owner was last
	// known.
	idClaims []int64
	// idPassedOn means that the next process is to claim the node.
	idPassedOn bool

	missed     atomic.Int64
	unreadable atomic.Int64
	idTaken    atomic.Bool

	// The fields below belong to runOwner.

	connected    bool
	wasConnected bool // there has been a connection before
	warnWait     time.Duration
	warning      *time.Timer

	jobs   chan zkJob
	busy   int
	urgent []zkJob
	bulk   []zkJob

	accounts map[string]*zkAccount
	// An open query waits either for an account or for an entry of the case index.
	waitsForAccount map[*Query]*zkAccount
	waitsForIndex   map[*Query]*zkIndexEntry
	index           map[string]*zkIndexEntry
	registrations   map[string]*zkRegistration
	places          regPlaces
	serverID        zkServerID
	audit           zkAudit
	// resolving means that a timer will read the entries of the case index again that
	// could not be read.
	resolving bool

	unreadNodes, badNodes, lostWatches, registering *zkComplaint
	// brokerComplaints holds the complaints about brokers by address.
	brokerComplaints map[string]*zkComplaint
}

// NewZooKeeper returns a source that gets its answers from ZooKeeper. It connects on
// Start. NewZooKeeper fails if the options are invalid.
func NewZooKeeper(opts ZooKeeperOptions) (*ZooKeeper, error) {
	warning, err := opts.complete()
	if err != nil {
		return nil, err
	}
	if warning != "" {
		glog.Warning(warning)
	}
	metadata, err := json.Marshal(opts.Metadata)
	if err != nil {
		return nil, fmt.Errorf("zookeeper: server ID's content: %w", err)
	}
	s := &ZooKeeper{
		opts:             opts,
		metadata:         metadata,
		mail:             newMailbox(),
		stop:             make(chan struct{}),
		warnWait:         zkFirstWarning,
		jobs:             make(chan zkJob, zkWorkers),
		accounts:         make(map[string]*zkAccount),
		waitsForAccount:  make(map[*Query]*zkAccount),
		waitsForIndex:    make(map[*Query]*zkIndexEntry),
		index:            make(map[string]*zkIndexEntry),
		registrations:    make(map[string]*zkRegistration),
		places:           regPlaces{most: opts.AutoRegMaxWait, held: make(map[netip.Addr]int)},
		brokerComplaints: make(map[string]*zkComplaint),
	}
	s.audit.source = s
	s.unreadNodes, s.badNodes = s.newComplaint(glog.ErrorDepth), s.newComplaint(glog.ErrorDepth)
	s.lostWatches, s.registering = s.newComplaint(glog.WarningDepth), s.newComplaint(glog.WarningDepth)
	s.serverID = zkServerID{source: s, previous: opts.PreviousServerID, lastOwner: opts.PreviousOwner}
	return s, nil
}

// Start implements Source.
func (s *ZooKeeper) Start(sink Sink) {
	s.lifeMu.Lock()
	defer s.lifeMu.Unlock()
	if s.closed || s.conn != nil {
		return
	}
	s.sink = sink
	// The owner has to begin before it hears that the connection is there. Otherwise a
	// fixed server ID would not be claimed until the next audit.
	s.mail.post(s.begin)
	conn, err := dialZK(s.opts.Brokers, s.opts.SessionTimeout, s.handleEvent)
	if err != nil {
		// This cannot happen, because the client fails only if there are no brokers.
		glog.Errorf("%v", err)
		return
	}
	s.conn = conn
	s.status.Store(conn)
	s.ended.Add(1 + zkWorkers)
	go s.runOwner()
	for range zkWorkers {
		go s.runWorker()
	}
}

// Lookup implements Source.
func (s *ZooKeeper) Lookup(q *Query) {
	if s.queries.add(q) {
		s.mail.post(func() { s.lookup(q) })
	}
}

// Cancel implements Source.
func (s *ZooKeeper) Cancel(q *Query) {
	if s.queries.remove(q) {
		s.mail.post(func() { s.cancelled(q) })
	}
}

// Release implements Source.
func (s *ZooKeeper) Release(account string) {
	s.mail.post(func() { s.release(account) })
}

// Close implements Source. It waits, a few seconds at most, until the session with the
// broker has ended and other instances can claim the server ID.
func (s *ZooKeeper) Close() {
	s.lifeMu.Lock()
	defer s.lifeMu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	left := s.queries.close()
	if s.conn == nil {
		for _, q := range left {
			s.queries.refuse(q, ErrClosed)
		}
		return
	}
	close(s.stop)
	limit := time.AfterFunc(zkCloseWait, s.conn.close)
	s.ended.Wait()
	// The owner has ended, so its state may be used here. The request nodes that it
	// created must not stay behind, because their miners are no longer served.
	for _, r := range s.registrations {
		if r.tried && !r.served && (r.owned || r.phase != regWaiting) {
			if err := removeRequest(s.conn, r.path, r.value); err != nil && !errors.Is(err, errZKNoNode) {
				s.limitedLog.Warningf("node stays", "zookeeper: %s stays behind: %v", r.path, err)
			}
		}
	}
	limit.Stop()
	s.conn.close()
}

// LogLimits returns the counts of the log lines that were omitted because there were
// too many of their kind. Any goroutine may use it.
func (s *ZooKeeper) LogLimits() *journal.LogLimits { return &s.limitedLog }

// Status describes the source now. Any goroutine may call it.
func (s *ZooKeeper) Status() Status {
	conn := s.status.Load()
	if conn == nil {
		return Status{}
	}
	return Status{
		Connected:   conn.hasSession(),
		LastContact: conn.lastContact(),
		Watches:     conn.watchCount(),
		Missed:      s.missed.Load(),
		Unreadable:  s.unreadable.Load(),
		IDTaken:     s.idTaken.Load(),
	}
}

// Entries counts the entries of the source's maps and queues, for tests that look for
// entries that are never removed. Apart from the known coins and names and their
// watches, all entries belong to open queries. Entries waits for the owner, so neither
// the sink nor a Reply may call it. It returns nil if the source is not running.
func (s *ZooKeeper) Entries() map[string]int {
	conn := s.status.Load()
	if conn == nil {
		return nil
	}
	counted := make(chan map[string]int, 1)
	s.mail.post(func() {
		counted <- map[string]int{
			"coins known": len(s.accounts), "names by case": len(s.index),
			"queries for a coin": len(s.waitsForAccount), "queries for a name": len(s.waitsForIndex),
			"registrations": len(s.registrations), "requests to the broker": len(s.urgent) + len(s.bulk) + s.busy,
		}
	})
	select {
	case n := <-counted:
		n["queries"], n["watches"] = s.queries.size(), conn.watchCount()
		return n
	case <-s.stop:
		return nil
	}
}
