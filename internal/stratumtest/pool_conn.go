package stratumtest

import (
	"bufio"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"os"
	"sort"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// patience limits how long a write blocks before a goroutine takes over the rest.
	// A miner that reads nothing therefore does not delay a broadcast.
	patience   = 20 * time.Millisecond
	maxPending = 4 << 20
	flushTime  = 30 * time.Second
)

// poolConn is a connection of a pool. Its serve goroutine owns it. Goroutines that send
// jobs share the fields that mu guards.
type poolConn struct {
	p    *Pool
	id   int
	nc   net.Conn
	r    *bufio.Reader
	done chan struct{} // closed by close
	once sync.Once

	received atomic.Uint64 // lines and binary messages read so far

	// Only the serve goroutine uses these.
	configured       bool
	subscribed       bool
	agent            bool
	refuses          bool // all workers are refused from now on, because one was refused by mode or treatment
	eth              ethProtocol
	ethNonce         string // hex digits of the nonce that the pool assigned
	en1              []byte
	en2Size          int
	laterExtranonces []usedExtranonce // guarded by mu
	held             []byte           // answer to subscribe that is sent after the answer to authorize
	seen             map[shareKey]struct{}
	seenFrom         uint64
	sessions         map[uint16]uint32 // last sequence number of each worker of an agent
	answersShares    bool              // whether the agent's shares are answered
	agentIndex       uint16            // number of the agent's next share

	mu         sync.Mutex // guards the following fields
	ready      bool       // the handshake is finished, so the connection gets jobs
	counted    bool       // poolCounters.ready includes this connection
	userAgent  string
	subscribe  string
	extranonce string
	workers    map[string]*workerCount
	lastWorker string
	askedMask  uint32
	mask       uint32
	sentBits   int    // zero bits of the difficulty sent last; -1 means none
	firstSeq   uint64 // number of the first job sent; lastSeq is that of the last
	lastSeq    uint64
	accepted   uint64
	rejected   uint64
	pending    []byte // bytes that wait for a slow reader
	flushing   bool   // a flush goroutine is running
	delayed    []delayedAnswer
	delivering bool // a deliver goroutine is running
	agentNext  int  // number of an agent's next job
	agentJobs  map[byte]*poolJob
}

type delayedAnswer struct {
	due  time.Time
	text []byte
}

func newPoolConn(p *Pool, nc net.Conn) *poolConn {
	return &poolConn{
		p: p, nc: nc,
		r:        bufio.NewReaderSize(nc, 1024),
		done:     make(chan struct{}),
		workers:  map[string]*workerCount{},
		sentBits: -1,
	}
}

func (c *poolConn) close() {
	c.once.Do(func() {
		close(c.done)
		c.nc.Close()
	})
}

// owes reports whether bytes are waiting to be sent.
func (c *poolConn) owes() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.delayed) > 0 || len(c.pending) > 0
}

// isReady reports whether the handshake is finished.
func (c *poolConn) isReady() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ready
}

// serve reads until the connection ends.
func (c *poolConn) serve() {
	defer c.p.wg.Done()
	defer c.leave()
	if c.p.Modes().CloseAt == StageAccept {
		return
	}
	for {
		first, err := c.r.Peek(1)
		if err != nil {
			return
		}
		c.received.Add(1)
		if first[0] == agentMagic {
			if err = c.handleAgentMessage(); err != nil {
				return
			}
			continue
		}
		line, err := readLine(c.r)
		if errors.Is(err, errLineTooLong) {
			c.p.fault(c, "line of more than %d bytes", maxLine)
		}
		if err != nil {
			return
		}
		if c.p.opts.RecordLines {
			c.p.note(&c.p.log.lines, maxLines, string(line))
			c.p.watch.notify()
		}
		if c.p.Modes().Hang {
			continue
		}
		if !c.handleLine(line) {
			return
		}
	}
}

// leave removes the connection from the pool.
func (c *poolConn) leave() {
	c.close()
	p := c.p
	c.mu.Lock()
	c.ready = false
	if c.counted {
		c.counted = false
		p.count.ready.Add(-1)
	}
	extranonce := c.extranonce
	c.mu.Unlock()
	p.count.agentWorkers.Add(-int64(len(c.sessions)))
	p.mu.Lock()
	delete(p.conns, c)
	if p.live[extranonce] == c {
		delete(p.live, extranonce)
	}
	p.mu.Unlock()
	p.count.connections.Add(-1)
	p.watch.notify()
}

// send is write for callers that do not hold mu.
func (c *poolConn) send(text []byte) {
	c.mu.Lock()
	c.write(text)
	c.mu.Unlock()
}

// write must be called with mu held. It does not wait for a slow reader; flush sends the
// rest.
func (c *poolConn) write(text []byte) {
	trickle := c.p.Modes().Trickle > 0
	if !c.flushing && !trickle {
		if c.p.opts.TLS == nil { // a TLS connection does not survive a write that timed out
			c.nc.SetWriteDeadline(time.Now().Add(patience))
		}
		n, err := c.nc.Write(text)
		if err == nil {
			return
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			c.close()
			return
		}
		text = text[n:]
	}
	if len(c.pending)+len(text) > maxPending {
		c.p.fault(c, "the reader is too slow: %d bytes are pending", len(c.pending))
		c.close()
		return
	}
	c.pending = append(c.pending, text...)
	if !c.flushing {
		c.flushing = true
		c.p.wg.Add(1)
		go c.flush()
	}
}

// flush writes the pending bytes in order and returns when none are left.
func (c *poolConn) flush() {
	defer c.p.wg.Done()
	for {
		c.mu.Lock()
		text := c.pending
		c.pending = nil
		if len(text) == 0 {
			c.flushing = false
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		for len(text) > 0 {
			n := len(text)
			if pause := c.p.Modes().Trickle; pause > 0 {
				n = 1
				if !c.pause(pause) {
					return
				}
			}
			c.nc.SetWriteDeadline(time.Now().Add(flushTime))
			if _, err := c.nc.Write(text[:n]); err != nil {
				c.close()
				return
			}
			text = text[n:]
		}
	}
}

// sendAfter sends an answer after a delay. Answers keep the order of the calls, and other
// messages are not delayed.
func (c *poolConn) sendAfter(delay time.Duration, text []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if delay <= 0 && !c.delivering {
		c.write(text)
		return
	}
	c.delayed = append(c.delayed, delayedAnswer{time.Now().Add(delay), text})
	if !c.delivering {
		c.delivering = true
		c.p.wg.Add(1)
		go c.deliver()
	}
}

func (c *poolConn) deliver() {
	defer c.p.wg.Done()
	for {
		c.mu.Lock()
		if len(c.delayed) == 0 {
			c.delivering = false
			c.mu.Unlock()
			return
		}
		next := c.delayed[0]
		c.delayed = c.delayed[1:]
		c.mu.Unlock()
		if !c.pause(time.Until(next.due)) {
			return
		}
		c.send(next.text)
	}
}

// pause waits for d. It returns false if the connection is closed in the meantime.
func (c *poolConn) pause(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-c.done:
		return false
	}
}

// offerJob sends a job if the miner has finished its handshake and has not received the
// job yet.
func (c *poolConn) offerJob(j *poolJob) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ready && j.seq > c.lastSeq {
		c.sendJob(j)
	}
}

// sendJob must be called with mu held.
func (c *poolConn) sendJob(j *poolJob) {
	modes := c.p.Modes()
	if modes.NoJob {
		return
	}
	first := c.firstSeq == 0
	var text []byte
	if first && modes.SendVersionMask && c.askedMask != 0 {
		text = append(text, setVersionMaskLine(c.mask)...)
	}
	if j.bits != c.sentBits && (c.p.opts.Chain != Ethereum || c.eth == ethNiceHash) {
		text = append(text, setDifficultyLine(j.bits)...)
	}
	c.sentBits = j.bits
	forceClean := first && !modes.FirstJobNotClean
	if c.p.opts.Chain == Ethereum {
		text = append(text, j.ethereumLine(c.eth, forceClean)...)
	} else if c.agent {
		text = append(text, c.agentJob(j, forceClean)...)
	} else if line := j.notify(forceClean); text == nil {
		text = line // all connections share this slice, which write does not change
	} else {
		text = append(text, line...)
	}
	if first {
		c.firstSeq = j.seq
	}
	c.lastSeq = j.seq
	c.write(text)
}

// start marks the connection as ready and sends the current job.
func (c *poolConn) start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ready {
		return
	}
	c.ready = true
	c.p.jobs.mu.RLock()
	j := c.p.jobs.current
	c.p.jobs.mu.RUnlock()
	c.sendJob(j)
}

func (c *poolConn) describe() ConnInfo {
	c.mu.Lock()
	defer c.mu.Unlock()
	info := ConnInfo{
		ID: c.id, Remote: c.nc.RemoteAddr().String(), UserAgent: c.userAgent, Subscribe: c.subscribe,
		Extranonce: c.extranonce, VersionMask: c.mask, Accepted: c.accepted, Rejected: c.rejected,
	}
	for name := range c.workers {
		info.Workers = append(info.Workers, name)
	}
	sort.Strings(info.Workers)
	return info
}

// readFull reads a binary message of n bytes.
func (c *poolConn) readFull(n int) ([]byte, error) {
	b := make([]byte, n)
	if _, err := io.ReadFull(c.r, b); err != nil {
		return nil, err
	}
	if c.p.opts.RecordLines {
		c.p.note(&c.p.log.lines, maxLines, "7f:"+hex.EncodeToString(b))
	}
	return b, nil
}
