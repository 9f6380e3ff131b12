package coins

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
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

// zkJob makes requests on a worker's goroutine. The owner then calls finish.
type zkJob func() (finish func())

// NewZooKeeper returns a source that gets its answers from ZooKeeper. It connects on
// Start. NewZooKeeper fails if the options are invalid.
func NewZooKeeper(opts ZooKeeperOptions) (*ZooKeeper, error) {
	if err := opts.complete(); err != nil {
		return nil, err
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
	conn, err := dialZK(s.opts.Brokers, s.opts.SessionTimeout, s.handleEvent)
	if err != nil {
		// This cannot happen, because the client fails only if there are no brokers.
		glog.Errorf("%v", err)
		return
	}
	s.conn = conn
	s.status.Store(conn)
	s.mail.post(s.begin)
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

func (s *ZooKeeper) runOwner() {
	defer s.ended.Done()
	for {
		select {
		case <-s.stop:
			s.finish()
			return
		case <-s.mail.ready:
			for _, work := range s.mail.take() {
				work()
			}
		}
	}
}

// finish ends the owner: it stops the timers and answers the open queries.
func (s *ZooKeeper) finish() {
	s.mail.close()
	close(s.jobs)
	if s.warning != nil {
		s.warning.Stop()
	}
	if s.audit.timer != nil {
		s.audit.timer.Stop()
	}
	for _, r := range s.registrations {
		r.timer.Stop()
	}
	for _, q := range s.queries.close() {
		s.queries.refuse(q, ErrClosed)
	}
}

func (s *ZooKeeper) runWorker() {
	defer s.ended.Done()
	for job := range s.jobs {
		finish := job()
		s.mail.post(func() {
			s.busy--
			finish()
			s.feed()
		})
	}
}

// begin is the first work of the owner.
func (s *ZooKeeper) begin() {
	s.serverID.begin()
	s.audit.begin()
	s.warning = time.AfterFunc(s.warnWait, func() { s.mail.post(s.warnUnavailable) })
}

// do gives a job to the workers. Urgent jobs, for which a miner waits, come before the
// many jobs of a reconnect.
func (s *ZooKeeper) do(urgent bool, job zkJob) {
	if urgent {
		s.urgent = append(s.urgent, job)
	} else {
		s.bulk = append(s.bulk, job)
	}
	s.feed()
}

// feed gives queued jobs to the workers that are free.
func (s *ZooKeeper) feed() {
	for s.busy < zkWorkers {
		queue := &s.urgent
		if len(*queue) == 0 {
			queue = &s.bulk
		}
		if len(*queue) == 0 {
			return
		}
		job := (*queue)[0]
		(*queue)[0] = nil
		*queue = (*queue)[1:]
		s.busy++
		s.jobs <- job // this does not block, because the channel has room for one job per worker
	}
}

// after makes the owner call work after a pause.
func (s *ZooKeeper) after(wait time.Duration, work func()) *time.Timer {
	return time.AfterFunc(wait, func() { s.mail.post(work) })
}

// handleEvent is called by the client's goroutines. The mailbox never holds more node
// events than there are watches.
func (s *ZooKeeper) handleEvent(event zkEvent) {
	s.mail.post(func() { s.event(event) })
}

func (s *ZooKeeper) event(event zkEvent) {
	switch event.kind {
	case zkConnected:
		s.handleConnected()
	case zkDisconnected, zkExpired:
		if s.connected {
			s.connected = false
			s.limitedLog.Warningf("connection lost", "zookeeper: connection lost, known sub-accounts keep their coins")
			s.warning = s.after(s.warnWait, s.warnUnavailable)
		}
		if event.kind == zkExpired {
			s.limitedLog.Warningf("session expired", "zookeeper: session expired")
		}
	case zkNodeChanged:
		s.nodeChanged(event.path)
	case zkWatchLost:
		s.watchLost(event.path)
	case zkBrokerFailed:
		s.brokerFailed(event.path, event.why, event.wrong)
	}
}

// handleConnected resumes everything that waits for the broker. It reads all watched
// nodes again, because a change may have been missed.
func (s *ZooKeeper) handleConnected() {
	s.connected = true
	s.warnWait = zkFirstWarning
	if s.warning != nil {
		s.warning.Stop()
	}
	if s.wasConnected {
		s.limitedLog.Infof("connected", "zookeeper: connected again, reading %d sub-accounts", len(s.accounts))
	} else {
		s.limitedLog.Infof("connected", "zookeeper: connected")
	}
	s.wasConnected = true
	s.serverID.check()
	for _, r := range s.registrations {
		s.advance(r)
	}
	s.resolveAll()
	for _, a := range s.accounts {
		s.readCoin(a)
	}
}

// warnUnavailable logs that there is no connection, and schedules the next warning.
func (s *ZooKeeper) warnUnavailable() {
	if s.connected {
		return
	}
	glog.Warningf("zookeeper: no broker of %s can be reached, still trying", strings.Join(s.opts.Brokers, ", "))
	s.warnWait = min(s.warnWait*3, zkLastWarning)
	s.warning = s.after(s.warnWait, s.warnUnavailable)
}

func (s *ZooKeeper) nodeChanged(path string) {
	if s.serverID.path != "" && path == s.serverID.path {
		s.serverID.check()
	}
	if name, ok := strings.CutPrefix(path, s.opts.CoinDir); ok {
		if a := s.accounts[name]; a != nil {
			s.readCoin(a)
		}
	}
	if name, ok := strings.CutPrefix(path, s.opts.AutoRegDir); ok && s.opts.AutoRegDir != "" {
		if r := s.registrations[name]; r != nil {
			s.advance(r)
		}
	}
}

// makeParents creates the directories above a node. It blocks, so only a zkJob may call
// it.
func makeParents(conn *zkConn, node string) error {
	for i := 1; i < len(node); i++ {
		if node[i] != '/' {
			continue
		}
		if err := conn.create(node[:i], nil, false); err != nil && !errors.Is(err, errZKNodeExists) {
			return err
		}
	}
	return nil
}
