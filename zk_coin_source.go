package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/journal"
	"github.com/golang/glog"
)

const (
	// zkWorkers is how many requests are under way at a time.
	zkWorkers = 16
	// zkRetryWait is the pause before a request that failed is made again.
	zkRetryWait = 200 * time.Millisecond
	// zkRefusedWait is the pause if the broker itself refused it; sub-accounts'
	// nodes have growing ones, see unreadable.
	zkRefusedWait = 3 * time.Second

	// zkCloseWait is what Close allows for the requests under way.
	zkCloseWait = time.Second

	zkFirstWarning = 3 * time.Second
	zkLastWarning  = 10 * time.Minute
)

// zkStatus is what can be told of a zkCoinSource from outside.
type zkStatus struct {
	Connected bool
	// LastContact is when a broker was last heard of; zero if never.
	LastContact time.Time
	Watches     int
	// Missed counts changes that no watch told.
	Missed int64
	// Unreadable is how many sub-accounts' nodes can not be read.
	Unreadable int64
	// IDTaken says that a fixed server ID is held by somebody else.
	IDTaken bool
}

// zkCoinSource is the CoinSource of pools: coins, server ID, case index and
// auto-registration are nodes in ZooKeeper.
//
// The goroutine runOwner owns all state and never waits for the broker.
// Requests are made by a few workers, which hand back what to do next.
type zkCoinSource struct {
	opts     zkOptions
	metadata []byte
	sink     CoinSink
	queries  openQueries
	mail     *mailbox
	stop     chan struct{}
	// limitedLog is for lines that ZooKeeper and miners can cause.
	limitedLog journal.LogLimits
	ended      sync.WaitGroup

	lifeMu sync.Mutex
	closed bool
	conn   *zkConn // nil until Start, then never changed
	// status is conn for Status, which must not wait for a Close.
	status atomic.Pointer[zkConn]

	idMu    sync.Mutex
	idPath  string
	idOwner int64

	missed  atomic.Int64
	unread  atomic.Int64
	idTaken atomic.Bool

	// The fields below belong to runOwner.

	connected bool
	everUp    bool
	warnWait  time.Duration
	warning   *time.Timer

	jobs   chan zkJob
	busy   int
	urgent []zkJob
	bulk   []zkJob

	accounts map[string]*zkAccount
	// place tells which account an open query waits for.
	place map[*coinQuery]*zkAccount
	// indexPlace tells which entry of the case index an open query waits for.
	indexPlace    map[*coinQuery]*zkIndexEntry
	index         map[string]*zkIndexEntry
	registrations map[string]*zkRegistration
	places        regPlaces
	serverID      zkServerID
	audit         zkAudit
	// resolving: entries of the case index that could not be read will be.
	resolving bool

	unreadNodes, badNodes, lostWatches, registering *zkComplaint
	// strangers are by the broker's address.
	strangers map[string]*zkComplaint
}

// zkJob makes requests in a worker; what it returns is then done by the owner.
type zkJob func() (finish func())

func newZKCoinSource(opts zkOptions) (*zkCoinSource, error) {
	if err := opts.complete(); err != nil {
		return nil, err
	}
	metadata, err := json.Marshal(opts.Metadata)
	if err != nil {
		return nil, fmt.Errorf("zookeeper: server ID's content: %w", err)
	}
	s := &zkCoinSource{
		opts:          opts,
		metadata:      metadata,
		mail:          newMailbox(),
		stop:          make(chan struct{}),
		warnWait:      zkFirstWarning,
		jobs:          make(chan zkJob, zkWorkers),
		accounts:      make(map[string]*zkAccount),
		place:         make(map[*coinQuery]*zkAccount),
		indexPlace:    make(map[*coinQuery]*zkIndexEntry),
		index:         make(map[string]*zkIndexEntry),
		registrations: make(map[string]*zkRegistration),
		places:        regPlaces{most: opts.AutoRegMaxWait, held: make(map[netip.Addr]int)},
		strangers:     make(map[string]*zkComplaint),
	}
	s.audit.source = s
	s.unreadNodes, s.badNodes = s.newComplaint(glog.ErrorDepth), s.newComplaint(glog.ErrorDepth)
	s.lostWatches, s.registering = s.newComplaint(glog.WarningDepth), s.newComplaint(glog.WarningDepth)
	s.serverID = zkServerID{source: s, previous: opts.PreviousServerID, lastOwner: opts.PreviousOwner}
	return s, nil
}

// Start implements CoinSource.
func (s *zkCoinSource) Start(sink CoinSink) {
	s.lifeMu.Lock()
	defer s.lifeMu.Unlock()
	if s.closed || s.conn != nil {
		return
	}
	s.sink = sink
	conn, err := dialZK(s.opts.Brokers, s.opts.SessionTimeout, s.handleEvent)
	if err != nil {
		// The client fails only without brokers, and there are some.
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

// Lookup implements CoinSource.
func (s *zkCoinSource) Lookup(q *coinQuery) {
	if s.queries.add(q) {
		s.mail.post(func() { s.lookup(q) })
	}
}

// Cancel implements CoinSource.
func (s *zkCoinSource) Cancel(q *coinQuery) {
	if s.queries.remove(q) {
		s.mail.post(func() { s.cancelled(q) })
	}
}

// Release implements CoinSource.
func (s *zkCoinSource) Release(account string) {
	s.mail.post(func() { s.release(account) })
}

// Close implements CoinSource. It waits, some seconds at most, until the
// session with the broker is ended and the server ID is free for others. It
// must not be called by the sink or by a query's Reply.
func (s *zkCoinSource) Close() {
	s.lifeMu.Lock()
	defer s.lifeMu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	left := s.queries.close()
	if s.conn == nil {
		for _, q := range left {
			s.queries.refuse(q, errCoinSourceClosed)
		}
		return
	}
	close(s.stop)
	limit := time.AfterFunc(zkCloseWait, s.conn.close)
	s.ended.Wait()
	// The owner is gone, its state is free. What it created for miners that
	// are not served any more must not stay behind.
	for _, r := range s.registrations {
		if r.tried && !r.gone && (r.owned || r.phase != regWaiting) {
			if err := removeRequest(s.conn, r.path, r.value); err != nil && !errors.Is(err, errZKNoNode) {
				s.limitedLog.Warningf("node stays", "zookeeper: %s stays behind: %v", r.path, err)
			}
		}
	}
	limit.Stop()
	s.conn.close()
}

// Status may be called from any goroutine.
func (s *zkCoinSource) Status() zkStatus {
	conn := s.status.Load()
	if conn == nil {
		return zkStatus{}
	}
	return zkStatus{
		Connected:   conn.hasSession(),
		LastContact: conn.lastContact(),
		Watches:     conn.watchCount(),
		Missed:      s.missed.Load(),
		Unreadable:  s.unread.Load(),
		IDTaken:     s.idTaken.Load(),
	}
}

func (s *zkCoinSource) runOwner() {
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

// finish is the owner's last work.
func (s *zkCoinSource) finish() {
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
		s.queries.refuse(q, errCoinSourceClosed)
	}
}

func (s *zkCoinSource) runWorker() {
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

// begin is the owner's first work.
func (s *zkCoinSource) begin() {
	s.serverID.begin()
	s.audit.begin()
	s.warning = time.AfterFunc(s.warnWait, func() { s.mail.post(s.warnAway) })
}

// do gives a job to the workers. Urgent ones, those somebody waits for, go
// before the many of a reconnect.
func (s *zkCoinSource) do(urgent bool, job zkJob) {
	if urgent {
		s.urgent = append(s.urgent, job)
	} else {
		s.bulk = append(s.bulk, job)
	}
	s.feed()
}

func (s *zkCoinSource) feed() {
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
		s.jobs <- job // has room for all workers
	}
}

// after does work later, in the owner's goroutine.
func (s *zkCoinSource) after(wait time.Duration, work func()) *time.Timer {
	return time.AfterFunc(wait, func() { s.mail.post(work) })
}

// handleEvent is called by the client's goroutines. There are never more node
// events in the mailbox than watches were set.
func (s *zkCoinSource) handleEvent(event zkEvent) {
	s.mail.post(func() { s.event(event) })
}

func (s *zkCoinSource) event(event zkEvent) {
	switch event.kind {
	case zkConnected:
		s.connectedAgain()
	case zkDisconnected, zkExpired:
		if s.connected {
			s.connected = false
			s.limitedLog.Warningf("connection lost", "zookeeper: connection lost, known sub-accounts keep their coins")
			s.warning = s.after(s.warnWait, s.warnAway)
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

// connectedAgain reads everything that is watched again, since a change may
// have been missed, and goes on with whatever waits for the broker.
func (s *zkCoinSource) connectedAgain() {
	s.connected = true
	s.warnWait = zkFirstWarning
	if s.warning != nil {
		s.warning.Stop()
	}
	if s.everUp {
		s.limitedLog.Infof("connected", "zookeeper: connected again, reading %d sub-accounts", len(s.accounts))
	} else {
		s.limitedLog.Infof("connected", "zookeeper: connected")
	}
	s.everUp = true
	s.serverID.check()
	for _, r := range s.registrations {
		s.advance(r)
	}
	s.resolveAll()
	for _, a := range s.accounts {
		s.readCoin(a)
	}
}

func (s *zkCoinSource) warnAway() {
	if s.connected {
		return
	}
	glog.Warningf("zookeeper: no broker of %s can be reached, still trying", strings.Join(s.opts.Brokers, ", "))
	s.warnWait = min(s.warnWait*3, zkLastWarning)
	s.warning = s.after(s.warnWait, s.warnAway)
}

func (s *zkCoinSource) nodeChanged(path string) {
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

// makeParents creates the directories above a node. Jobs call it.
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
