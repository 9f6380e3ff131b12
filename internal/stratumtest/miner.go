package stratumtest

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"time"
)

// IDStyle is the form of the IDs that a miner gives its requests.
type IDStyle int

// These are the styles of request IDs.
const (
	IDNumbers IDStyle = iota // 1, 2, 3, …
	IDStrings                // "m-1", "m-2", …
	IDSame                   // always 1; answers are matched in order
)

// MinerOptions describes a bitcoin miner.
type MinerOptions struct {
	Addr      string
	TLS       *tls.Config // nil disables TLS
	LocalIP   string      // source address, such as 127.0.0.2
	Worker    string      // default "miner.1"
	Password  string      // default "x"
	UserAgent string      // default "stratumtest/1.0"

	Pipelined           bool   // sends the whole handshake in one write
	Configure           uint32 // version mask to ask for; 0 means no mining.configure
	SuggestDifficulty   float64
	FollowExtranonce    bool // obeys mining.set_extranonce
	ExtranonceSubscribe bool // sends mining.extranonce.subscribe; without FollowExtranonce, mining.set_extranonce is still a violation
	IDs                 IDStyle

	Manual     bool          // submits shares only by SubmitOne and Submit
	Rate       float64       // shares per second; 0 submits each share when the previous one is answered
	ShareBits  int           // zero bits of each share's hash; 0 follows set_difficulty
	LateShares float64       // fraction of clean jobs that are followed by a share for the previous job
	LateAfter  time.Duration // delay of a late share; default 20 ms
	CheatHash  bool          // skips mining and submits arbitrary nonces; only for load tests

	latency *Latency
	fleet   *watch
}

// Miner is a simulated bitcoin miner that really mines. Each share has its own
// extranonce2 and a nonce that meets the difficulty with the miner's extranonce1. Any
// goroutine may call its methods. Close stops the miner's goroutines.
type Miner struct {
	opts  MinerOptions
	nc    net.Conn
	r     *bufio.Reader
	watch watch
	done  chan struct{} // closed by Close or by the end of the connection
	once  sync.Once
	wg    sync.WaitGroup

	mu         sync.Mutex // guards the following fields
	steps      []step     // requests of the handshake that are not sent yet
	requests   uint64     // number of the last request
	pending    []pendingRequest
	subscribed bool
	authorized bool
	refused    bool
	en1        []byte
	en2Size    int
	en2        uint64 // value used last; each is used only once per connection
	granted    uint32 // mask in the answer to configure
	rolling    bool
	mask       uint32
	difficulty int // zero bits of the latest set_difficulty; -1 means none
	job        *minerJob
	previous   *minerJob // the job before the last clean job
	ids        map[string]struct{}
	silent     bool // submits a share only when SubmitOne or Submit is called
	stats      MinerStats
}

// minerJob is the part of a job that a miner stores.
type minerJob struct {
	id    string
	pool  string
	ntime string
	bits  int
	mask  uint32
	work  *Work // nil when cheating

	en1     []byte // extranonce1 at the time the job came
	en2Size int
}

type requestKind int

const (
	kindOther requestKind = iota
	kindConfigure
	kindSubscribe
	kindAuthorize
	kindShare
)

type step struct {
	kind   requestKind
	method string
	params string
}

type pendingRequest struct {
	number uint64
	kind   requestKind
	sent   time.Time
	reply  chan<- int // receives the verdict for Submit
}

// ErrNoJob means that a share was requested before the miner had a job.
var ErrNoJob = errors.New("miner has no job")

// NewMiner connects and starts the handshake. It does not wait for the answers.
func NewMiner(opts MinerOptions) (*Miner, error) {
	if opts.Worker == "" {
		opts.Worker = "miner.1"
	}
	if opts.Password == "" {
		opts.Password = "x"
	}
	if opts.UserAgent == "" {
		opts.UserAgent = "stratumtest/1.0"
	}
	if opts.LateAfter == 0 {
		opts.LateAfter = 20 * time.Millisecond
	}
	d := net.Dialer{Timeout: 20 * time.Second, KeepAlive: -1}
	if opts.LocalIP != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(opts.LocalIP)}
	}
	nc, err := d.Dial("tcp", opts.Addr)
	if err != nil {
		return nil, fmt.Errorf("miner %s: %w", opts.Worker, err)
	}
	if nc, err = overTLS(nc, opts.TLS); err != nil {
		return nil, fmt.Errorf("miner %s: %w", opts.Worker, err)
	}
	m := &Miner{
		opts: opts, nc: nc,
		r:          bufio.NewReaderSize(nc, 2048),
		done:       make(chan struct{}),
		difficulty: -1,
		en2:        uint64(rand.Uint32()) << 16,
	}
	m.steps = m.handshake()
	m.mu.Lock()
	m.nextSteps()
	m.mu.Unlock()
	m.wg.Add(1)
	go m.readLoop()
	if opts.Rate > 0 && !opts.Manual {
		m.wg.Add(1)
		go m.shareLoop()
	}
	return m, nil
}

// Close ends the connection and waits for the miner's goroutines.
func (m *Miner) Close() {
	m.end(nil)
	m.wg.Wait()
}

// Done returns a channel that is closed when the connection ends.
func (m *Miner) Done() <-chan struct{} { return m.done }

// Addr returns the local address of the miner's connection.
func (m *Miner) Addr() string { return m.nc.LocalAddr().String() }

// Worker returns the name that the miner authorizes with.
func (m *Miner) Worker() string { return m.opts.Worker }

// Extranonce1 returns the miner's current extranonce1 in hex.
func (m *Miner) Extranonce1() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return fmt.Sprintf("%x", m.en1)
}

// WaitAuthorized waits for a positive answer to authorize.
func (m *Miner) WaitAuthorized(ctx context.Context) error {
	err := m.WaitFor(ctx, func(s MinerStats) bool { return s.Authorized || s.AuthorizeError != "" || s.Disconnected })
	if s := m.Stats(); err == nil && !s.Authorized {
		return fmt.Errorf("miner %s: not authorized: %s %s", m.opts.Worker, s.AuthorizeError, s.Err)
	}
	return err
}

// WaitPool waits until the miner's current job is from the named pool.
func (m *Miner) WaitPool(ctx context.Context, pool string) error {
	return m.WaitFor(ctx, func(s MinerStats) bool { return s.Pool == pool })
}

// WaitFor waits until the statistics satisfy a condition.
func (m *Miner) WaitFor(ctx context.Context, condition func(MinerStats) bool) error {
	if err := m.watch.wait(ctx, func() bool { return condition(m.Stats()) }); err != nil {
		return fmt.Errorf("miner %s: %w; it has %+v", m.opts.Worker, err, m.Stats())
	}
	return nil
}

// Send writes the text unchanged. Answers to requests in it count as unknown.
func (m *Miner) Send(text string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.write([]byte(text))
}

func (m *Miner) end(err error) {
	m.once.Do(func() {
		m.mu.Lock()
		m.stats.DisconnectedAt = time.Now()
		if err != nil {
			m.stats.Disconnected = true
			m.stats.Err = err.Error()
		}
		m.mu.Unlock()
		close(m.done)
		m.nc.Close()
		m.notify()
	})
}

// notify wakes the goroutines that wait for a change of this miner or of its fleet.
func (m *Miner) notify() {
	m.watch.notify()
	if m.opts.fleet != nil {
		m.opts.fleet.notify()
	}
}

func (m *Miner) readLoop() {
	defer m.wg.Done()
	for {
		line, err := readLine(m.r)
		if err != nil {
			m.end(err)
			return
		}
		m.handleLine(line)
	}
}

func (m *Miner) shareLoop() {
	defer m.wg.Done()
	tick := time.NewTicker(time.Duration(float64(time.Second) / m.opts.Rate))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			m.SubmitOne() // an error only means that there is no job yet or that the connection ended
		case <-m.done:
			return
		}
	}
}

// handshake returns the requests in the order that most real miners use.
func (m *Miner) handshake() []step {
	var steps []step
	if m.opts.Configure != 0 {
		steps = append(steps, step{kindConfigure, "mining.configure",
			fmt.Sprintf(`[["version-rolling"],{"version-rolling.mask":"%08x","version-rolling.min-bit-count":2}]`, m.opts.Configure)})
	}
	steps = append(steps, step{kindSubscribe, "mining.subscribe", "[" + quote(m.opts.UserAgent) + "]"})
	if m.opts.SuggestDifficulty > 0 {
		steps = append(steps, step{kindOther, "mining.suggest_difficulty",
			"[" + strconv.FormatFloat(m.opts.SuggestDifficulty, 'g', -1, 64) + "]"})
	}
	if m.opts.ExtranonceSubscribe {
		steps = append(steps, step{kindOther, "mining.extranonce.subscribe", "[]"})
	}
	return append(steps, step{kindAuthorize, "mining.authorize",
		"[" + quote(m.opts.Worker) + "," + quote(m.opts.Password) + "]"})
}

// nextSteps sends requests of the handshake until it has sent one whose answer the miner
// awaits. It must be called with mu held.
func (m *Miner) nextSteps() {
	var text []byte
	for len(m.steps) > 0 {
		s := m.steps[0]
		m.steps = m.steps[1:]
		number := m.enqueue(s.kind, nil)
		text = append(text, `{"id":`...)
		text = m.appendID(text, number)
		text = append(text, `,"method":"`+s.method+`","params":`+s.params+"}\n"...)
		if !m.opts.Pipelined && s.kind != kindOther {
			break
		}
	}
	if len(text) > 0 {
		m.write(text)
	}
}

// write must be called with mu held.
func (m *Miner) write(text []byte) error {
	m.nc.SetWriteDeadline(time.Now().Add(10 * time.Second))
	_, err := m.nc.Write(text)
	return err // readLoop notices a broken connection and ends the miner
}

func (m *Miner) enqueue(kind requestKind, reply chan<- int) uint64 {
	m.requests++
	m.pending = append(m.pending, pendingRequest{m.requests, kind, time.Now(), reply})
	return m.requests
}

func (m *Miner) appendID(b []byte, number uint64) []byte {
	switch m.opts.IDs {
	case IDStrings:
		b = append(b, `"m-`...)
		return append(strconv.AppendUint(b, number, 10), '"')
	case IDSame:
		return append(b, '1')
	default:
		return strconv.AppendUint(b, number, 10)
	}
}

// takePending removes and returns the request that an answer belongs to.
func (m *Miner) takePending(id string) (pendingRequest, bool) {
	at := -1
	var number uint64
	switch m.opts.IDs {
	case IDSame:
		if id == "1" && len(m.pending) > 0 {
			at = 0
		}
	case IDStrings:
		if len(id) > 4 && id[:3] == `"m-` {
			number, _ = strconv.ParseUint(id[3:len(id)-1], 10, 64)
		}
	default:
		number, _ = strconv.ParseUint(id, 10, 64)
	}
	for i := range m.pending {
		if number != 0 && m.pending[i].number == number {
			at = i
			break
		}
	}
	if at < 0 {
		if number > 0 && number <= m.requests {
			m.stats.Doubled++
		} else {
			m.stats.Unknown++
		}
		return pendingRequest{}, false
	}
	if at > 0 {
		m.stats.OutOfOrder++
	}
	found := m.pending[at]
	m.pending = append(m.pending[:at], m.pending[at+1:]...)
	return found, true
}
