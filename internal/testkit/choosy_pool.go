package testkit

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testport"
)

// Conduct is the reaction of a ChoosyPool to a request.
type Conduct uint8

const (
	ConductServe       Conduct = iota
	ConductRefuse              // answers with an error
	ConductRefuseClose         // answers with an error and closes
	ConductClose               // closes without an answer
	ConductHang                // does not answer
	ConductJobClose            // serves, gives one job and closes
	ConductMute                // serves, gives one job and never another; answers shares
)

// ChoosyPool is a pool for which the test decides how it reacts to each user agent and
// each worker. It accepts all shares without checking their work.
type ChoosyPool struct {
	Name string
	Ln   net.Listener
	Own  bool // whether it picks the extranonce

	// The following are called from the connections' goroutines and may block.
	OnAccept    func(k *ChoosyLink) Conduct
	OnSubscribe func(k *ChoosyLink, userAgent string) Conduct
	OnAuthorize func(k *ChoosyLink, worker string) Conduct
	OnSubmit    func(k *ChoosyLink, line string) // nil accepts every share

	Total, Most, Shares atomic.Int64

	mu    sync.Mutex
	Links map[*ChoosyLink]struct{}
	Jobs  int
	By    map[string]int // number of connections that asked to authorize each worker
	Wg    sync.WaitGroup
}

// ChoosyLink is a connection to a ChoosyPool.
type ChoosyLink struct {
	Pool   *ChoosyPool
	Nc     net.Conn
	Number int64 // its number among the pool's connections, from 1
	Asked  int   // how often mining.authorize came

	Mu     sync.Mutex // guards writes and the following fields
	Worker string
	Served bool
	Mute   bool
}

const (
	ChoosyRefusal     = `[24,"Unauthorized worker",null]`
	ChoosyNoUserAgent = `[25,"Not for this miner",null]`
)

// StartChoosyPool starts a pool that serves everybody. change may make it choosy.
func StartChoosyPool(t testing.TB, name string, change func(*ChoosyPool)) *ChoosyPool {
	t.Helper()
	ln, err := testport.Listen()
	if err != nil {
		t.Fatal(err)
	}
	return ServeChoosyPool(t, ln, name, change)
}

func ServeChoosyPool(t testing.TB, ln net.Listener, name string, change func(*ChoosyPool)) *ChoosyPool {
	p := &ChoosyPool{Name: name, Ln: ln, Links: make(map[*ChoosyLink]struct{}), By: make(map[string]int)}
	if change != nil {
		change(p)
	}
	p.Wg.Go(p.Accept)
	t.Cleanup(p.Close)
	return p
}

func (p *ChoosyPool) Addr() string { return p.Ln.Addr().String() }

func (p *ChoosyPool) Accept() {
	for {
		nc, err := p.Ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		k := &ChoosyLink{Pool: p, Nc: nc, Number: p.Total.Add(1)}
		p.mu.Lock()
		p.Links[k] = struct{}{}
		p.Most.Store(max(p.Most.Load(), int64(len(p.Links))))
		p.mu.Unlock()
		p.Wg.Go(k.Serve)
	}
}

func (p *ChoosyPool) Close() {
	p.Ln.Close()
	p.DropAll()
	p.Wg.Wait()
}

// All returns the connections that are open now.
func (p *ChoosyPool) All() []*ChoosyLink {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]*ChoosyLink, 0, len(p.Links))
	for k := range p.Links {
		list = append(list, k)
	}
	return list
}

// DropAll closes all connections. The pool still listens.
func (p *ChoosyPool) DropAll() {
	for _, k := range p.All() {
		k.Nc.Close()
	}
}

// Served returns the connections that are mined on.
func (p *ChoosyPool) Served() (list []*ChoosyLink) {
	for _, k := range p.All() {
		k.Mu.Lock()
		if k.Served {
			list = append(list, k)
		}
		k.Mu.Unlock()
	}
	return list
}

// DropServed closes all connections that are mined on.
func (p *ChoosyPool) DropServed() {
	for _, k := range p.Served() {
		k.Nc.Close()
	}
}

// Asked returns how many connections wanted to authorize a worker.
func (p *ChoosyPool) Asked(worker string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.By[worker]
}

// NewJob gives a job to all connections that are served, except those that are
// mute.
func (p *ChoosyPool) NewJob() {
	p.mu.Lock()
	p.Jobs++
	line := p.Job(p.Jobs) + "\n"
	p.mu.Unlock()
	for _, k := range p.All() {
		k.Mu.Lock()
		if k.Served && !k.Mute {
			io.WriteString(k.Nc, line)
		}
		k.Mu.Unlock()
	}
}

// GiveJobs gives new jobs regularly until the end of the test.
func (p *ChoosyPool) GiveJobs(t testing.TB, every time.Duration) {
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				p.NewJob()
			case <-stop:
				return
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-ended })
}

func (p *ChoosyPool) Job(n int) string {
	return stratumtest.JobLine(fmt.Sprintf("%s-%d", p.Name, n), false)
}

func (k *ChoosyLink) Serve() {
	p := k.Pool
	defer func() {
		k.Nc.Close()
		p.mu.Lock()
		delete(p.Links, k)
		p.mu.Unlock()
	}()
	if p.OnAccept != nil && !k.GoesOn(p.OnAccept(k), "", "") {
		return
	}
	r := bufio.NewReaderSize(k.Nc, 4096)
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return
		}
		var m struct {
			ID     json.RawMessage
			Method string
			Params []json.RawMessage
		}
		if json.Unmarshal(line, &m) != nil {
			return
		}
		text := func(i int) (s string) {
			if i < len(m.Params) {
				json.Unmarshal(m.Params[i], &s)
			}
			return s
		}
		id := string(m.ID)
		switch m.Method {
		case "mining.subscribe":
			extranonce := text(1)
			if p.Own || extranonce == "" {
				extranonce = fmt.Sprintf("%08x", 0xe0000000+k.Number)
			}
			c := ConductServe
			if p.OnSubscribe != nil {
				c = p.OnSubscribe(k, text(0))
			}
			if !k.GoesOn(c, id, ChoosyNoUserAgent) {
				return
			}
			if c == ConductServe {
				k.Write(fmt.Sprintf(`{"id":%s,"result":[[],"%s",8],"error":null}`, id, extranonce))
			}
		case "mining.authorize":
			if !k.Authorize(id, text(0)) {
				return
			}
		case "mining.submit":
			p.Shares.Add(1)
			if p.OnSubmit != nil {
				p.OnSubmit(k, string(line))
			}
			k.Write(`{"id":` + id + `,"result":true,"error":null}`)
		default:
			k.Write(`{"id":` + id + `,"result":null,"error":null}`)
		}
	}
}

func (k *ChoosyLink) Authorize(id, worker string) (goOn bool) {
	p := k.Pool
	k.Asked++
	p.mu.Lock()
	if k.Asked == 1 {
		p.By[worker]++
	}
	p.mu.Unlock()
	c := ConductServe
	if p.OnAuthorize != nil {
		c = p.OnAuthorize(k, worker)
	}
	switch c {
	case ConductServe, ConductMute, ConductJobClose:
	default:
		return k.GoesOn(c, id, ChoosyRefusal)
	}
	p.mu.Lock()
	job := p.Job(p.Jobs)
	p.mu.Unlock()
	k.Mu.Lock()
	k.Worker, k.Served, k.Mute = worker, true, c == ConductMute
	io.WriteString(k.Nc, `{"id":`+id+`,"result":true,"error":null}`+"\n"+`{"id":null,"method":"mining.set_difficulty","params":[1]}`+"\n"+job+"\n")
	k.Mu.Unlock()
	return c != ConductJobClose
}

// GoesOn carries out a conduct other than serving, and reports whether the connection
// stays open.
func (k *ChoosyLink) GoesOn(c Conduct, id, refusal string) bool {
	switch c {
	case ConductRefuse, ConductRefuseClose:
		k.Write(`{"id":` + id + `,"result":null,"error":` + refusal + `}`)
		return c == ConductRefuse
	case ConductClose:
		return false
	}
	return true
}

func (k *ChoosyLink) Write(line string) {
	k.Mu.Lock()
	defer k.Mu.Unlock()
	io.WriteString(k.Nc, line+"\n")
}

// Login is the result of a miner that has connected once.
type Login struct {
	Nc     net.Conn
	R      *bufio.Reader
	Answer string        // to mining.authorize; "" if there was none
	Took   time.Duration // from mining.authorize to its answer, or to the end
	Pool   string        // the pool of the first job
}

// Accepted reports whether the miner was authorized and got a job.
func (l *Login) Accepted() bool { return l.Pool != "" }

const LoginWait = 20 * time.Second

// DialLogin connects by dial, subscribes and authorizes.
func DialLogin(dial func() (net.Conn, error), worker, userAgent string) *Login {
	began := time.Now()
	l := &Login{}
	nc, err := dial()
	if err != nil {
		l.Answer = err.Error()
		return l
	}
	l.Nc, l.R = nc, bufio.NewReader(nc)
	nc.SetDeadline(began.Add(LoginWait))
	fmt.Fprintf(nc, `{"id":1,"method":"mining.subscribe","params":["%s"]}`+"\n"+`{"id":2,"method":"mining.authorize","params":["%s","x"]}`+"\n", userAgent, worker)
	for !l.Accepted() {
		line, err := l.R.ReadString('\n')
		if err != nil {
			break
		}
		switch {
		case strings.HasPrefix(line, `{"id":2,`):
			l.Took = time.Since(began)
			l.Answer = strings.TrimSpace(line)
			if l.Answer != `{"id":2,"result":true,"error":null}` {
				return l
			}
		case strings.Contains(line, `"mining.notify"`):
			_, rest, _ := strings.Cut(line, `"params":["`)
			l.Pool, _, _ = strings.Cut(rest, "-")
		}
	}
	l.Took = time.Since(began)
	nc.SetDeadline(time.Time{})
	return l
}

// LogIn connects a miner with this name.
func LogIn(addr, worker, userAgent string) *Login {
	return DialLogin(func() (net.Conn, error) { return net.DialTimeout("tcp", addr, LoginWait) }, worker, userAgent)
}

func (l *Login) Close() {
	if l.Nc != nil {
		l.Nc.Close()
	}
}

func RefusalAnswer(text string) string { return `{"id":2,"result":null,"error":` + text + `}` }

// ConnectFailed is the answer to a miner for which no pool can be reached.
const ConnectFailed = `{"id":2,"result":null,"error":[302,"Connect Stratum Server Failed",1]}`

// WantPrompt lets a miner log in, which the named pool must serve within a second, or
// somewhat later on a busy machine.
func WantPrompt(t testing.TB, addr, worker, pool string) {
	t.Helper()
	delay := MeasureDelay(t)
	l := LogIn(addr, worker, "stratumtest/1.0")
	defer l.Close()
	if limit := time.Second + delay(); l.Pool != pool || l.Took > limit {
		t.Errorf("%s got to pool %q after %v, with answer %q; want %q within %v", worker, l.Pool, l.Took.Round(time.Millisecond), l.Answer, pool, limit.Round(time.Millisecond))
	}
}

// MeasureDelay finds out by how much everything takes longer on a busy machine. Until
// the returned function is called, miners log in one after the other at a pool of their
// own, without a switcher, which takes about a fifth of the steps. The slowest of them
// counts, because a machine is not equally busy all the time.
func MeasureDelay(t testing.TB) (delay func() time.Duration) {
	t.Helper()
	const pause = 5 * time.Millisecond
	direct := StartChoosyPool(t, "direct", nil)
	done, slowest := make(chan struct{}), make(chan time.Duration, 1)
	go func() {
		var most time.Duration
		for {
			began := time.Now()
			l := LogIn(direct.Addr(), "alice.1", "stratumtest/1.0")
			l.Close()
			select {
			case <-done:
				slowest <- max(most, time.Since(began))
				return
			case <-time.After(pause):
				most = max(most, time.Since(began)-pause)
			}
		}
	}()
	return func() time.Duration {
		close(done)
		return 5 * <-slowest
	}
}

// GoodMiner mines steadily and does not hash.
func GoodMiner(t testing.TB, addr, worker string) *stratumtest.Miner {
	t.Helper()
	return StartMiner(t, stratumtest.MinerOptions{Addr: addr, Worker: worker, Rate: 20, CheatHash: true})
}

// GoodCrew starts miners of these accounts in turn, and waits until each has had a
// share accepted.
func GoodCrew(t testing.TB, addr string, n int, accounts ...string) (crew []*stratumtest.Miner) {
	t.Helper()
	for i := range n {
		crew = append(crew, GoodMiner(t, addr, fmt.Sprintf("%s.good%d", accounts[i%len(accounts)], i)))
	}
	WaitAllAccepted(t, crew, 1)
	return crew
}

// WaitAllAccepted waits until each of the miners has had n more shares
// accepted.
func WaitAllAccepted(t testing.TB, crew []*stratumtest.Miner, n uint64) {
	t.Helper()
	before := make([]uint64, len(crew))
	for i, m := range crew {
		before[i] = m.Stats().Accepted
	}
	for i, m := range crew {
		if err := m.WaitFor(WaitContext(t), func(st stratumtest.MinerStats) bool { return st.Accepted >= before[i]+n }); err != nil {
			t.Fatalf("miner %s: %v; %+v", m.Worker(), err, m.Stats())
		}
	}
}

// CheckServed fails the test if a miner was disconnected or refused, or is not at the
// pool. If lossy is set, shares that were unanswered when a pool closed may be lost.
func CheckServed(t testing.TB, crew []*stratumtest.Miner, pool string, lossy bool) {
	t.Helper()
	checkServed(t, crew, pool, lossy, 20)
}

// CheckServedAnew is CheckServed for a pool that has closed and then gave another
// extranonce. Shares that came in between may be stale.
func CheckServedAnew(t testing.TB, crew []*stratumtest.Miner, pool string) {
	t.Helper()
	checkServed(t, crew, pool, true, 20, 21)
}

// checkServed is CheckServed with the codes of the errors for lost shares.
func checkServed(t testing.TB, crew []*stratumtest.Miner, pool string, lossy bool, codes ...int) {
	t.Helper()
	for _, m := range crew {
		st := m.Stats()
		lost := uint64(0)
		for _, code := range codes {
			lost += st.RejectedByCode[code]
		}
		if st.Disconnected || st.AuthorizeError != "" || len(st.Violations) > 0 || st.Doubled+st.Unknown > 0 ||
			st.Rejected > lost || lost > 0 && !lossy || st.Pool != pool {
			t.Errorf("miner %s is at pool %q, want %q: %+v", m.Worker(), st.Pool, pool, st)
		}
	}
}

func ManyAccounts(prefix string, n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("%s%d", prefix, i))
	}
	return names
}

// IsBad reports whether a worker is one of those that pools refuse.
func IsBad(worker string) bool { return strings.Contains(worker, ".bad") }
