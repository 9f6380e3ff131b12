package main

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang/glog"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/coins"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/journal"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/relay"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// fdReserve is how many descriptors are reserved for everything except
// sessions: log files, ZooKeeper, HTTP, and the short needs of an upgrade.
const fdReserve = 72

// timing holds how long sessions wait for things. Tests make these times shorter.
type timing struct {
	firstByte, authorize              time.Duration
	poolHandshake, firstJobGrace      time.Duration
	configureGap                      time.Duration
	difficultyGrace                   time.Duration
	switchRetryFirst, switchRetryMost time.Duration
	reconnectFirst, reconnectMost     time.Duration
	noPool                            time.Duration
}

var defaultTiming = timing{
	firstByte:        firstByteTimeout,
	authorize:        authorizeTimeout,
	poolHandshake:    poolHandshakeTimeout,
	firstJobGrace:    firstJobGrace,
	configureGap:     configureGap,
	difficultyGrace:  difficultyGrace,
	switchRetryFirst: switchRetryFirst,
	switchRetryMost:  switchRetryMost,
	reconnectFirst:   reconnectFirst,
	reconnectMost:    reconnectMost,
	noPool:           noPoolTimeout,
}

// sessionManager accepts miners and keeps what sessions share: the loops they
// run on, the session IDs, the sub-accounts, the pools and the dial gate.
type sessionManager struct {
	config    *Config
	created   time.Time
	wallClock func() time.Time // time.Now, except in tests
	chain     stratum.Chain
	plan      extranoncePlan
	sizes     *sizeSurvey      // nil if the plan has the size
	proxies   []netip.Prefix   // TrustedProxies
	pools     map[string]*pool // by coin
	former    map[string]*pool // pools of the previous process, by coin; see formerPool
	health    *health
	accounts  *accountBook
	rates     *rateBook
	coins     coins.Source
	ids       *sessionIDs
	gate      *dialGate
	loops     []*sessionLoop
	drainTime time.Duration
	timing    timing
	monitor   *monitor
	limits    *connectionLimits
	tlsFiles  tlsFiles
	log       *processLog // nil if glog writes its output itself
	// limitedLog is for messages that a miner, a pool or another outside party can
	// cause as often as it likes.
	limitedLog journal.LogLimits

	tunnels *tunnels // TLS with miners and pools

	refusedAccounts refusedAccounts

	maxSessions int // what the descriptor limit and MaxSessions allow; see sessionsMax
	fdLimit     int
	tlsSides    int           // how many of a session's two sides may use TLS
	memory      memoryRelease // belongs to the first loop
	admitted    atomic.Int64  // miners' connections, from accept to close
	draining    atomic.Int64
	// portsToPools is how many connections the local ports allow to all pools
	// together; 0 if unknown.
	portsToPools atomic.Int64
	linksMade    atomic.Int64
	linksFailed  atomic.Int64
	linksLost    atomic.Int64

	// notUnderstood counts lines that were dropped because they could not be
	// translated.
	notUnderstood atomic.Int64

	resumed       *runtimeState          // state of the previous process; nil without one
	otherPools    map[otherPoolKey]*pool // pools that only resumed sessions use; see formerPool
	lostInUpgrade int
	frozenAt      time.Time
	frozenClock   int64
	frozen        atomic.Bool // the loops are stopped for an upgrade

	listener *relay.Listener
	accepted sync.WaitGroup // the accept loop

	mu        sync.Mutex
	sessions  []*Session
	waitingID map[*Session]struct{} // sessions that hold a request until their extranonce is known
	nextLoop  int
}

// newSessionManager makes a manager and its loops. start runs the loops and serve
// accepts miners. The caller closes both the manager and the coin source.
func newSessionManager(c *Config, source coins.Source) (*sessionManager, error) {
	chain, err := stratum.ParseChain(c.ChainType)
	if err != nil {
		return nil, err
	}
	health := newHealth()
	pools, err := newPools(c, health)
	if err != nil {
		return nil, err
	}
	proxies, err := parseNetworks(c.TrustedProxies)
	if err != nil {
		return nil, fmt.Errorf("TrustedProxies: %w", err)
	}
	m := &sessionManager{
		proxies:   proxies,
		config:    c,
		created:   time.Now(),
		wallClock: time.Now,
		chain:     chain,
		plan:      planExtranonce(c),
		pools:     pools,
		health:    health,
		coins:     source,
		ids:       newSessionIDs(chain.IndexBits(), chain.IndexStep()),
		gate:      newDialGate(c.MaxPoolDials, c.MaxPoolDialsPerSecond),
		drainTime: time.Duration(c.DrainSeconds) * time.Second,
		timing:    defaultTiming,
		monitor:   newMonitor(),
		limits:    newConnectionLimits(c),
		waitingID: make(map[*Session]struct{}),
	}
	for coin := range pools {
		m.monitor.countFromZero(coin)
	}
	m.rates = newRateBook()
	m.rates.adopt(pools)
	m.accounts = newAccountBook(health, m.monitor, m.rates)
	health.lookedUp = m.nameLookedUp
	m.sizes = newSizeSurvey(m)
	m.fdLimit, m.tlsSides = descriptorLimit(), c.tlsSides()
	if m.maxSessions, err = sessionRoom(c, m.fdLimit); err != nil {
		return nil, err
	}
	if m.tunnels, err = newTunnels(m); err != nil {
		return nil, err
	}
	m.measurePorts()
	for range runtime.GOMAXPROCS(0) {
		l, err := newSessionLoop(m.created)
		if err != nil {
			for _, l := range m.loops {
				l.Close()
			}
			return nil, err
		}
		m.loops = append(m.loops, l)
	}
	return m, nil
}

// start runs the loops.
func (m *sessionManager) start() {
	for _, l := range m.loops {
		l.Start()
		l.Post(func() { m.startSweeps(l) })
	}
	m.rates.start()
	m.tlsFiles.start(m.config, m.pools, m.monitor)
}

// listen opens the listener that miners connect to.
func listen(addr string) (*relay.Listener, error) {
	ln, err := relay.Listen(listenNetwork(addr), addr)
	if err != nil {
		return nil, fmt.Errorf("ListenAddr: %w", err)
	}
	return ln, nil
}

// serve begins to accept miners. The manager owns the listener from now on.
func (m *sessionManager) serve(ln *relay.Listener) {
	m.listener = ln
	limit := m.sessionsMax()
	glog.Infof("listening addr=%s chain=%s coins=%s coins_from=%s descriptors=%d sessions_max=%d%s",
		ln.Addr(), m.chain, strings.Join(m.coinNames(), ","), coinSourceName(m.config), m.fdLimit, limit, shortageText(portShortages(m.pools, limit)))
	for _, line := range portWarnings(m.pools, limit) {
		glog.Warning(line)
	}
	m.monitor.listening.Store(true)
	m.accepted.Go(m.acceptMiners)
}

// acceptMiners runs until the listener is closed.
func (m *sessionManager) acceptMiners() {
	const firstPause, mostPause = 5 * time.Millisecond, time.Second
	pause := firstPause
	for {
		h, addr, err := m.listener.Accept()
		switch {
		case err == nil:
			pause = firstPause
			m.newConnection(h, addr)
		case errors.Is(err, net.ErrClosed):
			return
		case relay.IsPaused(err):
			return
		default:
			m.limitedLog.Errorf("accept", "accept: %v; next try in %v", err, pause)
			time.Sleep(pause)
			pause = min(2*pause, mostPause)
		}
	}
}

// newConnection begins a session, or closes a connection that is over a limit.
func (m *sessionManager) newConnection(h relay.Handle, addr netip.AddrPort) {
	a, ok := m.admit(addr)
	if !ok {
		h.Close()
		return
	}
	m.mu.Lock()
	l := m.loops[m.nextLoop%len(m.loops)]
	m.nextLoop++
	m.mu.Unlock()
	l.Post(func() {
		s, err := newSession(m, l, h, addr)
		if err != nil {
			m.dismiss(a, addr)
			m.limitedLog.Errorf("refused", "refused miner=%s: %v", addr, err)
			return
		}
		s.admission = a
		m.add(s)
		m.monitor.connections.Add(1)
		glog.V(2).Infof("%s connected", s)
	})
}

// add puts a session into the lists of its loop and of the manager. It must be called on
// the loop's goroutine.
func (m *sessionManager) add(s *Session) {
	s.loop.add(s)
	m.mu.Lock()
	defer m.mu.Unlock()
	s.slot = int32(len(m.sessions))
	m.sessions = append(m.sessions, s)
}

// remove takes a closed session out of all lists and counts.
func (m *sessionManager) remove(s *Session) {
	m.dismiss(s.admission, s.addr)
	m.leaveAccount(s)
	s.loop.remove(s)
	if s.hasID {
		m.ids.free(s.id)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	last := len(m.sessions) - 1
	m.sessions[s.slot] = m.sessions[last]
	m.sessions[s.slot].slot = s.slot
	m.sessions[last] = nil
	m.sessions = m.sessions[:last]
	delete(m.waitingID, s)
}

// route asks for the coin of the sub-account the session is authorizing for.
func (m *sessionManager) route(s *Session) {
	account := s.auth.name.Account
	if m.config.StratumServerCaseInsensitive {
		account = strings.ToLower(account)
	}
	s.query = &coins.Query{Account: account, SessionID: s.id, Worker: s.auth.name.String(), Addr: s.addr.Addr()}
	s.query.Reply = func(account, coin string, err error) {
		var a *subAccount
		if err == nil {
			a = m.accounts.expect(account, coin)
		}
		s.loop.Post(func() { s.coinFound(a, err) })
	}
	m.coins.Lookup(s.query)
}

// CoinFileRead implements coins.FileSink.
func (m *sessionManager) CoinFileRead(path string, entries int, err error) {
	if err != nil {
		m.monitor.recordReload("coin file refused", err.Error())
		return
	}
	detail := fmt.Sprintf("%s, %d entries", path, entries)
	if entries == 1 {
		detail = path + ", 1 entry"
	}
	m.monitor.recordReload("coin file taken", detail)
}

func (m *sessionManager) coinNames() []string {
	return slices.Sorted(maps.Keys(m.pools))
}

// close stops accepting and ends all sessions.
func (m *sessionManager) close() {
	if m.listener != nil {
		m.monitor.listening.Store(false)
		m.listener.Close()
		m.accepted.Wait()
	}
	m.sizes.close()
	m.tlsFiles.close()
	for _, l := range m.loops {
		l.Call(func() {
			for _, s := range l.allSessions() {
				s.close("the switcher stops")
			}
		})
	}
	m.closeLoops()
	m.tunnels.close()
	m.rates.close()
}

func (m *sessionManager) closeLoops() {
	m.stopLoops()
	for _, l := range m.loops {
		l.Close()
	}
}

// stopLoops stops all loops in parallel.
func (m *sessionManager) stopLoops() {
	var stopped []<-chan struct{}
	for _, l := range m.loops {
		stopped = append(stopped, l.Stop())
	}
	for _, done := range stopped {
		<-done
	}
}
