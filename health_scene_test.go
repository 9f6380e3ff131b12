package main

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

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/journal"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testport"
)

// conduct is what a choosyPool does when a request comes.
type conduct uint8

const (
	conductServe       conduct = iota
	conductRefuse              // answers with an error
	conductRefuseClose         // answers with an error and closes
	conductClose               // closes without an answer
	conductHang                // does not answer
	conductJobClose            // serves, gives one job and closes
	conductMute                // serves, gives one job and never another; answers shares
)

// choosyPool is a pool that treats each user agent and each worker as the test
// says. It does no work for shares: each that it gets is accepted.
type choosyPool struct {
	name string
	ln   net.Listener
	own  bool // picks the extranonce

	// The following are called from the connections' goroutines and may block.
	onAccept    func(k *choosyLink) conduct
	onSubscribe func(k *choosyLink, userAgent string) conduct
	onAuthorize func(k *choosyLink, worker string) conduct

	total, most, shares atomic.Int64

	mu    sync.Mutex
	links map[*choosyLink]struct{}
	jobs  int
	by    map[string]int // connections that asked to authorize, by worker
	wg    sync.WaitGroup
}

// choosyLink is one connection to a choosyPool.
type choosyLink struct {
	pool   *choosyPool
	nc     net.Conn
	number int64 // of the pool's connections, from 1
	asked  int   // times mining.authorize came

	mu     sync.Mutex // guards writes and the following fields
	worker string
	served bool
	mute   bool
}

const (
	choosyRefusal     = `[24,"Unauthorized worker",null]`
	choosyNoUserAgent = `[25,"Not for this miner",null]`
)

// startChoosyPool starts a pool that serves all; change may make it choosy.
func startChoosyPool(t testing.TB, name string, change func(*choosyPool)) *choosyPool {
	t.Helper()
	ln, err := testport.Listen()
	if err != nil {
		t.Fatal(err)
	}
	return serveChoosyPool(t, ln, name, change)
}

func serveChoosyPool(t testing.TB, ln net.Listener, name string, change func(*choosyPool)) *choosyPool {
	p := &choosyPool{name: name, ln: ln, links: make(map[*choosyLink]struct{}), by: make(map[string]int)}
	if change != nil {
		change(p)
	}
	p.wg.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

func (p *choosyPool) addr() string { return p.ln.Addr().String() }

func (p *choosyPool) accept() {
	for {
		nc, err := p.ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		k := &choosyLink{pool: p, nc: nc, number: p.total.Add(1)}
		p.mu.Lock()
		p.links[k] = struct{}{}
		p.most.Store(max(p.most.Load(), int64(len(p.links))))
		p.mu.Unlock()
		p.wg.Go(k.serve)
	}
}

func (p *choosyPool) close() {
	p.ln.Close()
	p.dropAll()
	p.wg.Wait()
}

// all are the connections that are open now.
func (p *choosyPool) all() []*choosyLink {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]*choosyLink, 0, len(p.links))
	for k := range p.links {
		list = append(list, k)
	}
	return list
}

// dropAll closes all connections; the pool goes on listening.
func (p *choosyPool) dropAll() {
	for _, k := range p.all() {
		k.nc.Close()
	}
}

// served are the connections that are mined on.
func (p *choosyPool) served() (list []*choosyLink) {
	for _, k := range p.all() {
		k.mu.Lock()
		if k.served {
			list = append(list, k)
		}
		k.mu.Unlock()
	}
	return list
}

// dropServed closes all connections that are mined on.
func (p *choosyPool) dropServed() {
	for _, k := range p.served() {
		k.nc.Close()
	}
}

// asked is how many connections wanted to authorize a worker.
func (p *choosyPool) asked(worker string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.by[worker]
}

// newJob gives a job to all that are served, but not to those that are mute.
func (p *choosyPool) newJob() {
	p.mu.Lock()
	p.jobs++
	line := p.job(p.jobs) + "\n"
	p.mu.Unlock()
	for _, k := range p.all() {
		k.mu.Lock()
		if k.served && !k.mute {
			io.WriteString(k.nc, line)
		}
		k.mu.Unlock()
	}
}

// giveJobs has a new job come now and then until the end of the test.
func (p *choosyPool) giveJobs(t testing.TB, every time.Duration) {
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				p.newJob()
			case <-stop:
				return
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-ended })
}

func (p *choosyPool) job(n int) string { return jobLine(fmt.Sprintf("%s-%d", p.name, n), false) }

func (k *choosyLink) serve() {
	p := k.pool
	defer func() {
		k.nc.Close()
		p.mu.Lock()
		delete(p.links, k)
		p.mu.Unlock()
	}()
	if p.onAccept != nil && !k.goesOn(p.onAccept(k), "", "") {
		return
	}
	r := bufio.NewReaderSize(k.nc, 4096)
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
			if p.own || extranonce == "" {
				extranonce = fmt.Sprintf("%08x", 0xe0000000+k.number)
			}
			c := conductServe
			if p.onSubscribe != nil {
				c = p.onSubscribe(k, text(0))
			}
			if !k.goesOn(c, id, choosyNoUserAgent) {
				return
			}
			if c == conductServe {
				k.write(fmt.Sprintf(`{"id":%s,"result":[[],"%s",8],"error":null}`, id, extranonce))
			}
		case "mining.authorize":
			if !k.authorize(id, text(0)) {
				return
			}
		case "mining.submit":
			p.shares.Add(1)
			k.write(`{"id":` + id + `,"result":true,"error":null}`)
		default:
			k.write(`{"id":` + id + `,"result":null,"error":null}`)
		}
	}
}

func (k *choosyLink) authorize(id, worker string) (goOn bool) {
	p := k.pool
	k.asked++
	p.mu.Lock()
	if k.asked == 1 {
		p.by[worker]++
	}
	p.mu.Unlock()
	c := conductServe
	if p.onAuthorize != nil {
		c = p.onAuthorize(k, worker)
	}
	switch c {
	case conductServe, conductMute, conductJobClose:
	default:
		return k.goesOn(c, id, choosyRefusal)
	}
	p.mu.Lock()
	job := p.job(p.jobs)
	p.mu.Unlock()
	k.mu.Lock()
	k.worker, k.served, k.mute = worker, true, c == conductMute
	io.WriteString(k.nc, `{"id":`+id+`,"result":true,"error":null}`+"\n"+`{"id":null,"method":"mining.set_difficulty","params":[1]}`+"\n"+job+"\n")
	k.mu.Unlock()
	return c != conductJobClose
}

// goesOn does what is not service, and reports whether the connection stays.
func (k *choosyLink) goesOn(c conduct, id, refusal string) bool {
	switch c {
	case conductRefuse, conductRefuseClose:
		k.write(`{"id":` + id + `,"result":null,"error":` + refusal + `}`)
		return c == conductRefuse
	case conductClose:
		return false
	}
	return true
}

func (k *choosyLink) write(line string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	io.WriteString(k.nc, line+"\n")
}

// login is how a miner fared that has connected once.
type login struct {
	nc     net.Conn
	r      *bufio.Reader
	answer string        // to mining.authorize; empty: none
	took   time.Duration // from mining.authorize to its answer, or to the end
	pool   string        // of the first job
}

// accepted says that the miner was authorized and got a job.
func (l *login) accepted() bool { return l.pool != "" }

const loginWait = 20 * time.Second

// dialLogin connects by dial, subscribes and authorizes.
func dialLogin(dial func() (net.Conn, error), worker, userAgent string) *login {
	began := time.Now()
	l := &login{}
	nc, err := dial()
	if err != nil {
		l.answer = err.Error()
		return l
	}
	l.nc, l.r = nc, bufio.NewReader(nc)
	nc.SetDeadline(began.Add(loginWait))
	fmt.Fprintf(nc, `{"id":1,"method":"mining.subscribe","params":["%s"]}`+"\n"+`{"id":2,"method":"mining.authorize","params":["%s","x"]}`+"\n", userAgent, worker)
	for !l.accepted() {
		line, err := l.r.ReadString('\n')
		if err != nil {
			break
		}
		switch {
		case strings.HasPrefix(line, `{"id":2,`):
			l.took = time.Since(began)
			l.answer = strings.TrimSpace(line)
			if l.answer != `{"id":2,"result":true,"error":null}` {
				return l
			}
		case strings.Contains(line, `"mining.notify"`):
			_, rest, _ := strings.Cut(line, `"params":["`)
			l.pool, _, _ = strings.Cut(rest, "-")
		}
	}
	l.took = time.Since(began)
	nc.SetDeadline(time.Time{})
	return l
}

// logIn connects a miner with this name.
func logIn(addr, worker, userAgent string) *login {
	return dialLogin(func() (net.Conn, error) { return net.DialTimeout("tcp", addr, loginWait) }, worker, userAgent)
}

func (l *login) close() {
	if l.nc != nil {
		l.nc.Close()
	}
}

func refusalAnswer(text string) string { return `{"id":2,"result":null,"error":` + text + `}` }

// connectFailed is the answer to a miner that no pool can be had for.
const connectFailed = `{"id":2,"result":null,"error":[302,"Connect Stratum Server Failed",1]}`

// badCrowd has n miners log in again and again, each as fast as pause lets it,
// until the function returned is called; then it gives the answers they got.
func badCrowd(t testing.TB, addr string, n int, pause time.Duration, worker func(i int) string, userAgent string) (stop func() map[string]int) {
	ended := make(chan struct{})
	var mu sync.Mutex
	answers := make(map[string]int)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			for {
				l := logIn(addr, worker(i), userAgent)
				l.close()
				mu.Lock()
				answers[l.answer]++
				mu.Unlock()
				select {
				case <-ended:
					return
				case <-time.After(pause):
				}
			}
		})
	}
	var once sync.Once
	stop = func() map[string]int {
		once.Do(func() { close(ended) })
		all.Wait()
		return answers
	}
	t.Cleanup(func() { stop() })
	return stop
}

// wantOnly fails the test if there was any other answer, or none at all.
func wantOnly(t testing.TB, answers map[string]int, want string) {
	t.Helper()
	if len(answers) != 1 || answers[want] == 0 {
		t.Errorf("answers %v, want only %q", answers, want)
	}
}

// wantPrompt has a miner log in, which must be served within a second by the
// pool named.
func wantPrompt(t testing.TB, addr, worker, pool string) {
	t.Helper()
	l := logIn(addr, worker, "stratumtest/1.0")
	defer l.close()
	if l.pool != pool || l.took > time.Second {
		t.Errorf("%s: pool %q after %v, answer %q; want %q within 1 s", worker, l.pool, l.took.Round(time.Millisecond), l.answer, pool)
	}
}

// goodMiner mines steadily and does not hash.
func goodMiner(t testing.TB, addr, worker string) *stratumtest.Miner {
	t.Helper()
	return startMiner(t, stratumtest.MinerOptions{Addr: addr, Worker: worker, Rate: 20, CheatHash: true})
}

// goodCrew are miners of these accounts in turn that have had a share accepted.
func goodCrew(t testing.TB, addr string, n int, accounts ...string) (crew []*stratumtest.Miner) {
	t.Helper()
	for i := range n {
		crew = append(crew, goodMiner(t, addr, fmt.Sprintf("%s.good%d", accounts[i%len(accounts)], i)))
	}
	waitAllAccepted(t, crew, 1)
	return crew
}

// waitAllAccepted waits until each of the miners has had n more shares
// accepted.
func waitAllAccepted(t testing.TB, crew []*stratumtest.Miner, n uint64) {
	t.Helper()
	before := make([]uint64, len(crew))
	for i, m := range crew {
		before[i] = m.Stats().Accepted
	}
	for i, m := range crew {
		if err := m.WaitFor(waitContext(t), func(st stratumtest.MinerStats) bool { return st.Accepted >= before[i]+n }); err != nil {
			t.Fatalf("miner %s: %v; %+v", m.Worker(), err, m.Stats())
		}
	}
}

// checkServed fails the test if a miner was closed, refused, or is not at the
// pool. Shares that were under way when a pool closed may be lost, if lossy.
func checkServed(t testing.TB, crew []*stratumtest.Miner, pool string, lossy bool) {
	t.Helper()
	for _, m := range crew {
		st := m.Stats()
		lost := st.RejectedByCode[20]
		if st.Disconnected || st.AuthorizeError != "" || len(st.Violations) > 0 || st.Doubled+st.Unknown > 0 ||
			st.Rejected > lost || lost > 0 && !lossy || st.Pool != pool {
			t.Errorf("%s: at pool %q, want %q: %+v", m.Worker(), st.Pool, pool, st)
		}
	}
}

// timesTakenOut counts how often addresses were taken out of use.
func (m *testSwitcher) timesTakenOut() (n int) {
	for _, e := range m.monitor.events.All() {
		if e.Kind == journal.Failover && e.What == "pool taken out" {
			n += e.Count
		}
	}
	return n
}

// coinsOf gives each account the coin.
func coinsOf(coin string, accounts ...string) *memoryCoins {
	coins := make(map[string]string, len(accounts))
	for _, a := range accounts {
		coins[a] = coin
	}
	return newMemoryCoins(coins)
}

func manyAccounts(prefix string, n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("%s%d", prefix, i))
	}
	return names
}

// coinAt is a configuration with one coin, btc, at these addresses.
func coinAt(extranonce string, addrs ...string) func(*Config) {
	return func(c *Config) {
		c.StratumServerMap["btc"] = StratumServerInfo{URL: addrs[0], UserSuffix: "btc", BackupURLs: addrs[1:], ExtraNonce: extranonce}
	}
}

// isBad says that a worker is one of those a pool does not like.
func isBad(worker string) bool { return strings.Contains(worker, ".bad") }
