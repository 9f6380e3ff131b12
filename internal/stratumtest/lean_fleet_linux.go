package stratumtest

import (
	"bytes"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// LeanFleetOptions describes a lean fleet.
type LeanFleetOptions struct {
	N          int
	Addr       string             // an address in 127.0.0.0/8
	WorkerName func(i int) string // returns plain text without escapes
}

// LeanFleet is a group of miners that generate load. Their shares contain an arbitrary
// nonce. It runs until Close.
type LeanFleet struct {
	opts LeanFleetOptions
	to   *unix.SockaddrInet4
	loop *leanLoop
	rate atomic.Int64 // shares per 1000 s

	// Latency is the time from each submit to its answer.
	Latency Latency

	// Only the loop uses these.
	miners   []*leanMiner
	starting int // miners that are in their handshake
	turn     int // index of the miner that submits the next share
	owed     float64
	last     time.Time

	mining, gone, submitted, accepted, rejected, missed, jobs atomic.Int64

	mu     sync.Mutex
	faults []string // the first few
}

// LeanFleetStats are totals since the start.
type LeanFleetStats struct {
	Mining       int // miners that were authorized and got a job
	Disconnected int
	Submitted    uint64
	Accepted     uint64
	Rejected     uint64
	Jobs         uint64
	Missed       int64    // shares not submitted, because a miner or time was lacking
	Faults       []string // descriptions of the first unexpected events
}

// leanMiner is a miner of a LeanFleet. Its first request is mining.subscribe, its
// second mining.authorize, and all others are shares.
type leanMiner struct {
	leanConn
	fleet      *LeanFleet
	worker     string
	authorized bool
	mining     bool
	answered   uint64      // number of the last request that was answered
	pending    []time.Time // send times of the requests after that one
	job, ntime []byte
	en2        uint64
	en2Size    int
}

const (
	// leanStarting limits how many handshakes run at a time.
	leanStarting = 64
	// leanBehind limits the backlog of shares, in seconds.
	leanBehind = 0.25
)

// NewLeanFleet starts the miners and does not wait for them to connect.
func NewLeanFleet(opts LeanFleetOptions) (*LeanFleet, error) {
	addr, err := netip.ParseAddrPort(opts.Addr)
	if err != nil || !addr.Addr().Is4() {
		return nil, fmt.Errorf("lean fleet: address %q: %v", opts.Addr, err)
	}
	loop, err := newLeanLoop()
	if err != nil {
		return nil, err
	}
	f := &LeanFleet{opts: opts, loop: loop, last: time.Now(), to: &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}}
	loop.tick = f.tick
	loop.start()
	return f, nil
}

// SetRate sets the total number of shares per second.
func (f *LeanFleet) SetRate(sharesPerSecond float64) { f.rate.Store(int64(sharesPerSecond * 1000)) }

// Close stops the fleet and closes its connections.
func (f *LeanFleet) Close() { f.loop.close() }

// Stats returns a snapshot. It may be called at any time.
func (f *LeanFleet) Stats() LeanFleetStats {
	f.mu.Lock()
	defer f.mu.Unlock()
	return LeanFleetStats{Mining: int(f.mining.Load()), Disconnected: int(f.gone.Load()), Submitted: uint64(f.submitted.Load()),
		Accepted: uint64(f.accepted.Load()), Rejected: uint64(f.rejected.Load()), Jobs: uint64(f.jobs.Load()), Missed: f.missed.Load(),
		Faults: append([]string(nil), f.faults...)}
}

// tick starts miners, and submits the shares that are due. The miners take turns.
func (f *LeanFleet) tick(now time.Time) {
	for f.starting < leanStarting && len(f.miners) < f.opts.N {
		f.startMiner()
	}
	rate := float64(f.rate.Load()) / 1000
	f.owed += now.Sub(f.last).Seconds() * rate
	f.last = now
	if most := max(1, rate*leanBehind); f.owed > most {
		f.missed.Add(int64(f.owed - most))
		f.owed = most
	}
	for ; f.owed >= 1 && rate > 0 && len(f.miners) > 0; f.owed-- {
		m := f.miners[f.turn%len(f.miners)]
		f.turn++
		if m.mining {
			m.submit(now)
		} else {
			f.missed.Add(1)
		}
	}
}

func (f *LeanFleet) startMiner() {
	m := &leanMiner{fleet: f, worker: f.opts.WorkerName(len(f.miners)), en2Size: 8}
	f.miners = append(f.miners, m)
	f.starting++
	if err := m.dial(); err != nil {
		f.gone.Add(1)
		f.starting--
		f.fault(m, "%v", err)
	}
}

func (m *leanMiner) dial() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	m.fd = fd
	if err = unix.Connect(fd, m.fleet.to); err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err == nil {
		err = m.fleet.loop.add(m)
	}
	if err != nil {
		unix.Close(fd)
		return err
	}
	now := time.Now()
	m.pending = append(m.pending, now, now)
	m.write(fmt.Appendf(nil, `{"id":1,"method":"mining.subscribe","params":["lean/1.0"]}`+"\n"+
		`{"id":2,"method":"mining.authorize","params":["%s","x"]}`+"\n", m.worker))
	return nil
}

func (m *leanMiner) submit(now time.Time) {
	m.en2++
	m.pending = append(m.pending, now)
	m.fleet.submitted.Add(1)
	var room [256]byte
	b := strconv.AppendUint(append(room[:0], `{"id":`...), m.answered+uint64(len(m.pending)), 10)
	b = append(append(b, `,"method":"mining.submit","params":["`...), m.worker...)
	b = append(append(b, `","`...), m.job...)
	b = append(b, `","`...)
	b = append(b, appendHex64(nil, m.en2)[16-2*m.en2Size:]...)
	b = append(append(b, `","`...), m.ntime...)
	m.write(append(b, `","01234567"]}`+"\n"...))
}

func (m *leanMiner) line(line []byte) {
	if id := leanID(line); id == nil || !bytes.Equal(id, []byte("null")) {
		m.answer(id, line)
		return
	}
	if !bytes.Contains(line[:min(len(line), 64)], []byte(`"mining.notify"`)) {
		return // the difficulty does not matter
	}
	m.fleet.jobs.Add(1)
	m.job = append(m.job[:0], leanParam(line, 0)...)
	// The time is the last string in the line.
	if end := bytes.LastIndexByte(line, '"'); end > 0 {
		m.ntime = append(m.ntime[:0], line[bytes.LastIndexByte(line[:end], '"')+1:end]...)
	}
	m.begin()
}

// begin marks the miner as mining once it is authorized and has a job.
func (m *leanMiner) begin() {
	if m.authorized && len(m.job) > 0 && !m.mining {
		m.mining = true
		m.fleet.starting--
		m.fleet.mining.Add(1)
	}
}

// answer handles a line that must be the answer to the oldest unanswered request.
func (m *leanMiner) answer(id, line []byte) {
	f := m.fleet
	if n, err := strconv.ParseUint(string(id), 10, 64); err != nil || len(m.pending) == 0 || n != m.answered+1 {
		f.fault(m, "the line after the answer to request %d is not the next answer: %s", m.answered, line)
		return
	}
	m.answered++
	sent := m.pending[0]
	m.pending = m.pending[1:]
	yes := bytes.Contains(line, []byte(`"result":true`))
	switch {
	case m.answered == 1:
		// … "extranonce1",size],"error":null}
		head, _, ok := bytes.Cut(line, []byte(`],"error":null`))
		size, err := strconv.Atoi(string(head[bytes.LastIndexByte(head, ',')+1:]))
		if !ok || err != nil || size < 1 || size > 8 {
			f.fault(m, "subscribe was answered with %s", line)
			return
		}
		m.en2Size = size
	case m.answered == 2:
		if m.authorized = yes; !yes {
			f.fault(m, "authorize was answered with %s", line)
		}
		m.begin()
	default:
		f.Latency.add(time.Since(sent))
		if yes {
			f.accepted.Add(1)
		} else {
			f.rejected.Add(1)
			f.fault(m, "a share was answered with %s", line)
		}
	}
}

func (m *leanMiner) ended() {
	m.fleet.gone.Add(1)
	if !m.mining {
		m.fleet.starting--
	}
	m.mining = false
	m.fleet.fault(m, "disconnected")
}

func (f *LeanFleet) fault(m *leanMiner, format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.faults) < 10 {
		f.faults = append(f.faults, m.worker+": "+strings.TrimSpace(fmt.Sprintf(format, args...)))
	}
}
