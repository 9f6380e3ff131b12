package testkit

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// Login is a miner's connection and the result of its handshake.
type Login struct {
	Nc     net.Conn
	R      *bufio.Reader
	Answer string        // answer to mining.authorize, or the error of a failed dial
	Took   time.Duration // from the dial to the refusal, the first job or the connection's end
	Pool   string        // the pool of the first job
}

// Accepted reports whether the miner was authorized and got a job.
func (l *Login) Accepted() bool { return l.Pool != "" }

const LoginWait = 20 * time.Second

// DialLogin connects with dial, subscribes, authorizes and waits for the first job.
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

// LogIn is DialLogin over TCP.
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

// WantPrompt fails the test unless a new miner gets a job of the named pool within a
// second, or somewhat later on a busy machine.
func WantPrompt(t testing.TB, addr, worker, pool string) {
	t.Helper()
	delay := MeasureDelay(t)
	l := LogIn(addr, worker, "stratumtest/1.0")
	defer l.Close()
	if limit := time.Second + delay(); l.Pool != pool || l.Took > limit {
		t.Errorf("%s reached pool %q after %v, with answer %q; want %q within %v", worker, l.Pool, l.Took.Round(time.Millisecond), l.Answer, pool, limit.Round(time.Millisecond))
	}
}

// MeasureDelay measures how much longer a login takes on a busy machine. Until the
// returned function is called, miners log in one after another at a pool of their own,
// without a switcher. Such a login has about a fifth of the steps, so the function returns
// five times its duration. The slowest login counts, because a machine is not equally busy
// all the time.
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

// GoodMiner starts a miner that submits shares steadily without computing hashes.
func GoodMiner(t testing.TB, addr, worker string) *stratumtest.Miner {
	t.Helper()
	return StartMiner(t, stratumtest.MinerOptions{Addr: addr, Worker: worker, Rate: 20, CheatHash: true})
}

// GoodCrew starts n miners, which belong to these accounts in turn, and waits until each
// has had a share accepted.
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
// pool, unless that is empty. If lossy is set, shares that were unanswered when a pool closed its connections
// may be rejected.
func CheckServed(t testing.TB, crew []*stratumtest.Miner, pool string, lossy bool) {
	t.Helper()
	checkServed(t, crew, pool, lossy, 20)
}

// CheckServedAnew is CheckServed for miners whose pool closed its connections and then
// gave them another extranonce. Shares submitted in between may be rejected as stale.
func CheckServedAnew(t testing.TB, crew []*stratumtest.Miner, pool string) {
	t.Helper()
	checkServed(t, crew, pool, true, 20, 21)
}

// checkServed is CheckServed with the error codes by which lost shares are recognized.
func checkServed(t testing.TB, crew []*stratumtest.Miner, pool string, lossy bool, codes ...int) {
	t.Helper()
	for _, m := range crew {
		st := m.Stats()
		lost := uint64(0)
		for _, code := range codes {
			lost += st.RejectedByCode[code]
		}
		if st.Disconnected || st.AuthorizeError != "" || len(st.Violations) > 0 || st.Doubled+st.Unknown > 0 ||
			st.Rejected > lost || lost > 0 && !lossy || pool != "" && st.Pool != pool {
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

// IsBad reports whether a worker is one of those that the tests' pools refuse.
func IsBad(worker string) bool { return strings.Contains(worker, ".bad") }
