package stratumtest

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sort"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testport"
)

// Chain is the name of a chain, as in the switcher's ChainType.
type Chain string

// These are the chains that a Pool supports.
const (
	Bitcoin       Chain = "bitcoin"
	DecredNormal  Chain = "decred-normal"
	DecredGominer Chain = "decred-gominer"
	Ethereum      Chain = "ethereum"
)

// PoolOptions describes a pool. The zero value is a bitcoin pool on a free port that
// makes jobs on demand and accepts any hash.
type PoolOptions struct {
	Name  string      // beginning of its job IDs; default "pool"
	Chain Chain       // default Bitcoin
	Addr  string      // default: a free port of 127.0.0.1
	TLS   *tls.Config // nil disables TLS

	ShareBits   int           // zero bits that a share's hash must have
	JobInterval time.Duration // 0 means that only NewJob makes jobs
	CleanEvery  int           // with JobInterval, every n-th job is clean; default 4
	JobSize     int           // bitcoin jobs are padded to about this many bytes
	JobIDs      JobIDStyle
	VersionMask uint32         // 0 means no version rolling
	Own         *OwnExtranonce // nil means that the switcher chooses the extranonce
	SkipWork    bool           // skips the proof of work, but not the other checks

	AcceptWorker func(name string) bool // default: accepts all
	RecordLines  bool                   // stores each received line; see Lines
	Modes        Modes                  // initial modes; see SetModes
}

// Pool is a simulated pool. Any goroutine may call its methods. Close stops the pool's
// goroutines.
type Pool struct {
	opts  PoolOptions
	watch watch
	modes atomic.Pointer[Modes]
	// treatments maps prefixes of worker names to treatments.
	treatments atomic.Pointer[map[string]Treatment]
	count      poolCounters

	jobMu sync.Mutex // held while a job is made and sent, so that jobs stay in order

	mu        sync.Mutex // guards the following fields
	listener  net.Listener
	addr      string
	stop      chan struct{} // closed by Close
	conns     map[*poolConn]struct{}
	live      map[string]*poolConn // the newest connection of each extranonce
	workers   map[string]*workerCount
	shareBits int
	nextEN1   uint32
	log       poolLog

	jobs jobTable
	wg   sync.WaitGroup
}

// jobTable is read for each share and written for each job.
type jobTable struct {
	mu      sync.RWMutex
	current *poolJob
	known   map[string]*poolJob // by ID; on ethereum also by header
	cleanAt uint64              // jobs with smaller numbers are stale
	lastSeq uint64
}

// NewPool starts a pool.
func NewPool(opts PoolOptions) (*Pool, error) {
	if opts.Name == "" {
		opts.Name = "pool"
	}
	if opts.Chain == "" {
		opts.Chain = Bitcoin
	}
	if opts.Addr == "" {
		addr, err := testport.Addr()
		if err != nil {
			return nil, fmt.Errorf("pool %s: %w", opts.Name, err)
		}
		opts.Addr = addr
	}
	if opts.CleanEvery <= 0 {
		opts.CleanEvery = 4
	}
	p := &Pool{
		opts:      opts,
		addr:      opts.Addr,
		conns:     map[*poolConn]struct{}{},
		live:      map[string]*poolConn{},
		workers:   map[string]*workerCount{},
		shareBits: opts.ShareBits,
		nextEN1:   0xf0000000,
	}
	modes := opts.Modes
	p.modes.Store(&modes)
	p.jobs.known = map[string]*poolJob{}
	p.NewJob(true)
	if err := p.Restart(); err != nil {
		return nil, err
	}
	return p, nil
}

// Addr returns host:port, which Restart does not change.
func (p *Pool) Addr() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.addr
}

// Name returns the pool's name, with which its job IDs begin.
func (p *Pool) Name() string { return p.opts.Name }

// Close stops listening, closes all connections, and returns when all goroutines have
// ended. The pool keeps its jobs and counters for a Restart.
func (p *Pool) Close() {
	p.mu.Lock()
	if p.stop == nil {
		p.mu.Unlock()
		return
	}
	close(p.stop)
	p.stop = nil
	p.listener.Close()
	p.mu.Unlock()
	p.CloseConnections()
	p.wg.Wait()
}

// Restart listens again on the pool's address.
func (p *Pool) Restart() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stop != nil {
		return nil
	}
	l, err := testport.ListenAgain(p.addr)
	if err != nil {
		return fmt.Errorf("pool %s: %w", p.opts.Name, err)
	}
	if p.opts.TLS != nil {
		l = tls.NewListener(l, p.opts.TLS)
	}
	p.listener, p.addr = l, l.Addr().String()
	p.stop = make(chan struct{})
	p.wg.Add(1)
	go p.acceptLoop(l)
	if p.opts.JobInterval > 0 {
		p.wg.Add(1)
		go p.jobLoop(p.stop)
	}
	return nil
}

// CloseConnections closes all connections. The pool keeps listening.
func (p *Pool) CloseConnections() {
	for _, c := range p.connections() {
		c.close()
	}
}

// WaitConnections waits until n connections have finished their handshake and are
// still open.
func (p *Pool) WaitConnections(ctx context.Context, n int) error {
	err := p.watch.wait(ctx, func() bool { return int(p.count.ready.Load()) == n })
	if err != nil {
		return fmt.Errorf("pool %s has %d connections, not %d: %w", p.opts.Name, p.count.ready.Load(), n, err)
	}
	return nil
}

// WaitFor waits until the statistics satisfy a condition, which is checked after every
// connection, job and share.
func (p *Pool) WaitFor(ctx context.Context, condition func(PoolStats) bool) error {
	if err := p.watch.wait(ctx, func() bool { return condition(p.Stats()) }); err != nil {
		return fmt.Errorf("pool %s: %w; it has %+v", p.opts.Name, err, p.Stats())
	}
	return nil
}

// NewJob makes a job, sends it to all miners and returns its ID. A clean job makes all
// earlier ones stale.
func (p *Pool) NewJob(clean bool) string {
	p.jobMu.Lock()
	defer p.jobMu.Unlock()
	p.mu.Lock()
	zeroBits := p.shareBits
	p.mu.Unlock()

	t := &p.jobs
	t.mu.Lock()
	t.lastSeq++
	id := strconv.FormatUint(t.lastSeq, 10)
	if p.opts.JobIDs == JobIDNamed {
		id = p.opts.Name + "-" + id
	}
	var j *poolJob
	if p.opts.Chain == Ethereum {
		j = newEthereumJob(t.lastSeq, id, zeroBits, clean)
	} else {
		j = newBitcoinJob(t.lastSeq, id, zeroBits, clean, p.opts.JobSize)
	}
	if clean {
		clear(t.known)
		t.cleanAt = j.seq
	}
	t.known[id] = j
	if j.header != "" {
		t.known[j.header] = j
	}
	t.current = j
	t.mu.Unlock()

	for _, c := range p.connections() {
		c.offerJob(j)
	}
	p.watch.notify()
	return id
}

// SetShareBits changes the difficulty and sends it together with a new job.
func (p *Pool) SetShareBits(zeroBits int, clean bool) string {
	p.mu.Lock()
	p.shareBits = zeroBits
	p.mu.Unlock()
	return p.NewJob(clean)
}

// Broadcast sends the text unchanged to all miners that have finished their handshake.
func (p *Pool) Broadcast(text string) {
	for _, c := range p.connections() {
		c.mu.Lock()
		if c.ready {
			c.write([]byte(text))
		}
		c.mu.Unlock()
	}
}

// SendReconnect sends client.reconnect to all miners.
func (p *Pool) SendReconnect(host string, port, wait int) {
	p.Broadcast(fmt.Sprintf(`{"id":null,"method":"client.reconnect","params":[%s,%d,%d]}`+"\n", quote(host), port, wait))
}

// SendSetExtranonce sends mining.set_extranonce to all miners. The pool still
// checks shares against the old extranonce.
func (p *Pool) SendSetExtranonce(extranonce1 string, size int) {
	p.Broadcast(fmt.Sprintf(`{"id":null,"method":"mining.set_extranonce","params":[%s,%d]}`+"\n", quote(extranonce1), size))
}

// SendVersionMask changes the mask of all miners that requested version rolling, and
// sends a new clean job.
func (p *Pool) SendVersionMask(mask uint32) {
	for _, c := range p.connections() {
		c.mu.Lock()
		if c.ready && c.askedMask != 0 {
			c.mask = c.askedMask & mask
			c.write(setVersionMaskLine(c.mask))
		}
		c.mu.Unlock()
	}
	p.NewJob(true)
}

func (p *Pool) connections() []*poolConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]*poolConn, 0, len(p.conns))
	for c := range p.conns {
		list = append(list, c)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].id < list[j].id })
	return list
}

func (p *Pool) acceptLoop(l net.Listener) {
	defer p.wg.Done()
	for {
		nc, err := l.Accept()
		if err != nil {
			p.mu.Lock()
			stopped := p.listener != l || p.stop == nil
			p.mu.Unlock()
			if stopped {
				return
			}
			time.Sleep(5 * time.Millisecond) // the process has probably run out of descriptors
			continue
		}
		c := newPoolConn(p, nc)
		p.mu.Lock()
		if p.stop == nil {
			p.mu.Unlock()
			nc.Close()
			return
		}
		c.id = int(p.count.connectionsTotal.Add(1))
		p.conns[c] = struct{}{}
		p.count.connections.Add(1)
		p.wg.Add(1)
		p.mu.Unlock()
		p.watch.notify()
		go c.serve()
	}
}

func (p *Pool) jobLoop(stop <-chan struct{}) {
	defer p.wg.Done()
	tick := time.NewTicker(p.opts.JobInterval)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-tick.C:
			p.NewJob(n%p.opts.CleanEvery == 0)
		case <-stop:
			return
		}
	}
}
