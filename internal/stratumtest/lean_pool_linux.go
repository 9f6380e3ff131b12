package stratumtest

import (
	"bytes"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// LeanPoolOptions describes a lean pool.
type LeanPoolOptions struct {
	Name        string
	JobSize     int           // approximate size of a job's line in bytes
	JobInterval time.Duration // 0 means that the pool makes only its first job
}

// LeanPool is a pool for load tests. It accepts every share, and counts a share as a
// stray if its job was not sent on the same connection. It listens on 127.0.0.1 until
// Close.
type LeanPool struct {
	opts LeanPoolOptions
	addr string
	loop *leanLoop

	// Only the loop uses these.
	job     *poolJob
	nextJob time.Time
	links   map[*leanLink]struct{}

	open, joined, shares, strays atomic.Int64

	mu    sync.Mutex
	stray []string // the first few
}

// LeanPoolStats are totals since the start, except Connections.
type LeanPoolStats struct {
	Connections int // open connections that have sent something
	Authorized  int
	Accepted    uint64
	Strays      uint64   // malformed lines, and shares for jobs that were not sent on their connection
	SomeStrays  []string // the first few
}

// leanLink is a connection to a LeanPool.
type leanLink struct {
	leanConn
	pool       *LeanPool
	subscribed []byte // answer to mining.subscribe, sent together with the answer to mining.authorize
	firstJob   uint64 // number of the first job sent; 0 means none
}

// StartLeanPool starts a pool.
func StartLeanPool(opts LeanPoolOptions) (*LeanPool, error) {
	loop, err := newLeanLoop()
	if err != nil {
		return nil, err
	}
	p := &LeanPool{opts: opts, loop: loop, links: make(map[*leanLink]struct{})}
	p.newJob()
	addr, err := loop.listen(p.accept)
	if err != nil {
		loop.close()
		return nil, err
	}
	p.addr = addr.String()
	if opts.JobInterval > 0 {
		p.nextJob = time.Now().Add(opts.JobInterval)
		loop.tick = p.tick
	}
	loop.start()
	return p, nil
}

// Addr returns the pool's address.
func (p *LeanPool) Addr() string { return p.addr }

// Name returns the pool's name, with which its job IDs begin.
func (p *LeanPool) Name() string { return p.opts.Name }

// Close stops the pool and closes its connections.
func (p *LeanPool) Close() { p.loop.close() }

// Stats returns a snapshot. It may be called at any time.
func (p *LeanPool) Stats() LeanPoolStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return LeanPoolStats{Connections: int(p.open.Load()), Authorized: int(p.joined.Load()),
		Accepted: uint64(p.shares.Load()), Strays: uint64(p.strays.Load()), SomeStrays: append([]string(nil), p.stray...)}
}

func (p *LeanPool) newJob() {
	seq := uint64(1)
	if p.job != nil {
		seq = p.job.seq + 1
	}
	p.job = newBitcoinJob(seq, p.opts.Name+"-"+strconv.FormatUint(seq, 10), 1, seq == 1, p.opts.JobSize)
}

// tick makes a job when one is due and sends it to all authorized connections.
func (p *LeanPool) tick(now time.Time) {
	if now.Before(p.nextJob) {
		return
	}
	p.nextJob = now.Add(p.opts.JobInterval)
	p.newJob()
	for k := range p.links {
		if k.firstJob > 0 {
			k.write(p.job.notify(false))
		}
	}
}

func (p *LeanPool) accept(fd int) {
	k := &leanLink{leanConn: leanConn{fd: fd}, pool: p}
	if p.loop.add(k) != nil {
		unix.Close(fd)
		return
	}
	p.links[k] = struct{}{}
	p.open.Add(1)
}

func (k *leanLink) ended() {
	delete(k.pool.links, k)
	k.pool.open.Add(-1)
}

func (k *leanLink) line(line []byte) {
	p, id := k.pool, leanID(line)
	switch {
	case id == nil:
		p.strange(line)
	case bytes.Contains(line, []byte(`"mining.submit"`)):
		if !k.sent(leanParam(line, 1)) {
			p.strange(line)
		}
		p.shares.Add(1)
		k.answer(id, "true")
	case bytes.Contains(line, []byte(`"mining.subscribe"`)):
		// The second parameter is the session ID, which becomes extranonce1. See
		// docs/protocol.md, "Handshake with the pool".
		k.subscribed = append(append(append(append([]byte(`{"id":`), id...), `,"result":[[],"`...), leanParam(line, 1)...),
			`",8],"error":null}`+"\n"...)
	case bytes.Contains(line, []byte(`"mining.authorize"`)):
		b := append(k.subscribed, `{"id":`...)
		b = append(append(b, id...), `,"result":true,"error":null}`+"\n"+`{"id":null,"method":"mining.set_difficulty","params":[1]}`+"\n"...)
		k.write(append(b, p.job.notify(true)...))
		k.subscribed, k.firstJob = nil, p.job.seq
		p.joined.Add(1)
	default:
		k.answer(id, "null")
	}
}

func (k *leanLink) answer(id []byte, result string) {
	var room [96]byte
	b := append(append(room[:0], `{"id":`...), id...)
	b = append(append(b, `,"result":`...), result...)
	k.write(append(b, `,"error":null}`+"\n"...))
}

// sent reports whether a job was sent on this connection.
func (k *leanLink) sent(job []byte) bool {
	number, ok := bytes.CutPrefix(job, []byte(k.pool.opts.Name+"-"))
	n, err := strconv.ParseUint(string(number), 10, 64)
	return ok && err == nil && k.firstJob > 0 && n >= k.firstJob && n <= k.pool.job.seq
}

func (p *LeanPool) strange(line []byte) {
	p.strays.Add(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.stray) < 5 {
		p.stray = append(p.stray, string(line))
	}
}
