//go:build linux && e2e

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// takeoverScene is a daemon that starts as the successor of another program, with
// connections whose other ends the test holds.
type takeoverScene struct {
	t        *testing.T
	p        *daemontest.Daemon
	far      map[int]net.Conn // the test's ends, by the daemon's descriptors
	files    []*os.File       // what the daemon inherits, from descriptor 3 up
	links    []string         // what these descriptors are, as in /proc/PID/fd
	sessions []takenSession
}

// takenSession is a session in runtime.json.
type takenSession struct {
	SessionID               uint32
	MiningCoin              string
	ClientConnFD            int
	ServerConnFD            int
	StratumSubscribeRequest json.RawMessage
	StratumAuthorizeRequest json.RawMessage
	VersionMask             uint32

	// Older switchers do not write the following.

	Phase      string `json:",omitempty"`
	ClientAddr string `json:",omitempty"`
	HasID      bool   `json:",omitempty"`
	Account    string `json:",omitempty"`
}

func (s *takenSession) descriptors() []int { return []int{s.ClientConnFD, s.ServerConnFD} }

const takeoverFirstFD = 3

func newTakeoverScene(t *testing.T, sessions int, ln net.Listener) *takeoverScene {
	t.Helper()
	sc := &takeoverScene{t: t, far: make(map[int]net.Conn), p: daemontest.Foreign(t, t.TempDir(), daemontest.Build(t, "one"))}
	c := daemontest.FileConfig()
	c.StratumServerMap = map[string]daemontest.PoolConfig{"btc": {URL: "127.0.0.1:1", UserSuffix: "btc"}}
	c.PoolIdleSeconds = 0
	sc.p.WriteConfig(c)
	sc.p.SetCoins(map[string]string{"*": "btc"})
	for i := range sessions {
		minerFar, minerNear := testkit.TCPPair(t, ln)
		poolFar, poolNear := testkit.TCPPair(t, ln)
		minerFD, poolFD := sc.inherit(minerNear), sc.inherit(poolNear)
		sc.far[minerFD], sc.far[poolFD] = minerFar, poolFar
		sc.sessions = append(sc.sessions, takenSession{
			SessionID: 1<<24 | uint32(128+i), MiningCoin: "btc", ClientConnFD: minerFD, ServerConnFD: poolFD,
			StratumSubscribeRequest: json.RawMessage(`{"id":1,"method":"mining.subscribe","params":["cgminer"]}`),
			StratumAuthorizeRequest: fmt.Appendf(nil, `{"id":2,"method":"mining.authorize","params":["alice.w%d","x"]}`, i),
		})
	}
	return sc
}

// takeoverListener accepts the connections of which the test needs both ends.
func takeoverListener(t *testing.T, network string) net.Listener {
	t.Helper()
	ln, err := net.Listen(network, map[string]string{"tcp4": "127.0.0.1:0", "tcp6": "[::1]:0"}[network])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// inherit makes the daemon inherit a file, and returns its descriptor there.
func (sc *takeoverScene) inherit(f *os.File) int {
	sc.t.Helper()
	link, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	if err != nil {
		sc.t.Fatal(err)
	}
	sc.files, sc.links = append(sc.files, f), append(sc.links, link)
	return takeoverFirstFD + len(sc.files) - 1
}

// start runs the daemon with this state file.
func (sc *takeoverScene) start(state []byte) {
	sc.t.Helper()
	if err := os.WriteFile(filepath.Join(sc.p.Dir, runtimeFile), state, 0o600); err != nil {
		sc.t.Fatal(err)
	}
	sc.p.Inherit = sc.files
	sc.p.Start("-logtostderr", "-v=1", "-runtime", runtimeFile)
	for _, f := range sc.files {
		f.Close()
	}
}

// wantRelayed wants session i to relay a share and its answer, and nothing else to
// arrive.
func (sc *takeoverScene) wantRelayed(i int) error {
	id := 1000 + i
	miner, pool := sc.far[sc.sessions[i].ClientConnFD], sc.far[sc.sessions[i].ServerConnFD]
	share := fmt.Sprintf(`{"id":%d,"method":"mining.submit","params":["alice.w%d","j","00","00","00"]}`+"\n", id, i)
	answer := fmt.Sprintf(`{"id":%d,"result":true,"error":null}`+"\n", id)
	for _, way := range []struct {
		name     string
		from, to net.Conn
		line     string
	}{{"share", miner, pool, share}, {"answer", pool, miner, answer}} {
		if _, err := io.WriteString(way.from, way.line); err != nil {
			return fmt.Errorf("session %d: %s: %w", i, way.name, err)
		}
		way.to.SetReadDeadline(time.Now().Add(testkit.LongWait))
		if got, err := bufio.NewReader(way.to).ReadString('\n'); err != nil || got != way.line {
			return fmt.Errorf("session %d: %s %q arrived as %q, %v", i, way.name, way.line, got, err)
		}
	}
	return nil
}

// wantClosed wants the daemon to have closed the near end of a connection.
func wantClosed(conn net.Conn) error {
	conn.SetReadDeadline(time.Now().Add(testkit.LongWait))
	if n, err := conn.Read(make([]byte, 1)); n > 0 || err == nil || os.IsTimeout(err) {
		return fmt.Errorf("the connection is open: read %d bytes, %v", n, err)
	}
	return nil
}

// wantServed wants the daemon to serve a new miner, and then to end on a signal.
func (sc *takeoverScene) wantServed() {
	sc.t.Helper()
	raw := stratumtest.DialRaw(sc.t, sc.p.Addr)
	raw.SendLine(testkit.RawSubscribe)
	if line := raw.Line(testkit.LongWait); !strings.Contains(line, "mining.notify") {
		sc.t.Errorf("a new miner was answered %q", line)
	}
	sc.p.Signal(syscall.SIGTERM)
	select {
	case <-sc.p.Ended:
	case <-time.After(testkit.LongWait):
		sc.t.Fatal("the daemon does not end")
	}
	if code := sc.p.Cmd.ProcessState.ExitCode(); code != 0 {
		sc.t.Errorf("the daemon ended with %v", sc.p.Cmd.ProcessState)
	}
}

// olderState is what an older switcher writes about sessions.
func olderState(t *testing.T, sessions []takenSession) []byte {
	t.Helper()
	state, err := json.Marshal(map[string]any{"Action": "upgrade", "ServerID": 1, "SessionDatas": sessions})
	testkit.Must(t, err)
	return state
}

// foreignFiles are descriptors that no session can have, as a supervisor may leave
// them open. They must not be changed.
func foreignFiles(t *testing.T) []*os.File {
	t.Helper()
	var files []*os.File
	add := func(name string, fds ...int) {
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), name))
		}
	}
	must := func(fd int, err error) int {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return fd
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(0, err)
	add("unix", pair[:]...)
	pipe := make([]int, 2)
	must(0, unix.Pipe2(pipe, unix.O_CLOEXEC))
	add("pipe", pipe...)
	add("file", must(unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)))
	local := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	udp := must(unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0))
	must(0, unix.Bind(udp, local))
	sa, err := unix.Getsockname(udp)
	must(0, err)
	must(0, unix.Connect(udp, sa))
	add("udp", udp)
	add("tcp not connected", must(unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)))
	listening := must(unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0))
	must(0, unix.Bind(listening, local))
	must(0, unix.Listen(listening, 5))
	add("tcp listener", listening)
	return files
}

// TestTakeoverDescriptors: descriptors in an older switcher's state file may be
// closed, somebody else's, repeated, or by now the new process's own. Sessions with
// good ones are taken over. Of the others, nobody is left hanging or gets lines
// that are not theirs. Descriptors that belong to no session are left alone.
func TestTakeoverDescriptors(t *testing.T) {
	t.Parallel()
	const seed = 20
	for round := range takeoverRounds(200) {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			t.Parallel()
			takeOver(t, rand.New(rand.NewPCG(seed, uint64(round))))
		})
	}
}

// takeoverRounds returns n, or less where a process takes long to start.
func takeoverRounds(n int) int {
	if *daemontest.DaemonRace {
		return n / 4
	}
	return n
}

func takeOver(t *testing.T, rng *rand.Rand) {
	n := 2 + rng.IntN(5)
	sc := newTakeoverScene(t, n, takeoverListener(t, "tcp4"))
	connections := takeoverFirstFD + len(sc.files) // smaller numbers belong to sessions
	for _, f := range foreignFiles(t) {
		sc.inherit(f)
	}
	beyond := takeoverFirstFD + len(sc.files)
	for range rng.IntN(2 * n) {
		fd := &sc.sessions[rng.IntN(n)].ClientConnFD
		if rng.IntN(2) == 0 {
			fd = &sc.sessions[rng.IntN(n)].ServerConnFD
		}
		switch rng.IntN(5) {
		case 0: // repeated, or another connection's
			*fd = takeoverFirstFD + rng.IntN(connections-takeoverFirstFD)
		case 1: // no connection
			*fd = connections + rng.IntN(beyond-connections)
		case 2: // closed, or by now the process's own
			*fd = beyond + rng.IntN(16)
		case 3:
			*fd = []int{0, 1, 2, -1, -7, 1 << 20, 1<<31 - 1, -1 << 31}[rng.IntN(8)]
		}
	}
	named := make(map[int]int)
	for _, s := range sc.sessions {
		named[s.ClientConnFD]++
		named[s.ServerConnFD]++
	}
	sc.start(olderState(t, sc.sessions))

	closed := make(map[int]bool)
	var kept []int
	for i, s := range sc.sessions {
		fds := []int{s.ClientConnFD, s.ServerConnFD}
		// Even a number that only this session has may be that of another
		// connection. Nothing can show that.
		if !slices.ContainsFunc(fds, func(fd int) bool { return sc.far[fd] == nil || named[fd] > 1 }) {
			kept = append(kept, i)
			continue
		}
		for _, fd := range fds {
			if sc.far[fd] != nil {
				closed[fd] = true
			}
		}
	}
	sc.p.WaitLog(fmt.Sprintf(`upgraded version=one sessions=%d lost=%d `, len(kept), n-len(kept)))
	for fd := range closed {
		if err := wantClosed(sc.far[fd]); err != nil {
			t.Errorf("descriptor %d: %v", fd, err)
		}
	}
	for _, i := range kept {
		if err := sc.wantRelayed(i); err != nil {
			t.Error(err)
		}
	}
	for at, link := range sc.links {
		if fd := takeoverFirstFD + at; !closed[fd] {
			if now, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", sc.p.Cmd.Process.Pid, fd)); err != nil || now != link {
				t.Errorf("descriptor %d was %s and is now %s, %v", fd, link, now, err)
			}
		}
	}
	sc.wantServed()
	if t.Failed() {
		t.Logf("state: %s", olderState(t, sc.sessions))
	}
}

// ownState is what a process of this program writes about sessions and, if it has
// one, its listener.
func (sc *takeoverScene) ownState(listener int, addr string) []byte {
	sc.t.Helper()
	var config daemontest.Config
	testkit.Must(sc.t, readJSON(sc.p.Path("config.json"), &config))
	members := map[string]any{
		"Action": "upgrade", "Version": 1, "ServerID": 1, "ChainType": "bitcoin", "FrozenAt": time.Now(), "NextIndex": 500,
		"Wanted": map[string]string{"alice": "btc"}, "Monitor": map[string]any{"Events": nil, "History": nil}, "Config": config,
	}
	if addr != "" {
		members["ListenFD"], members["ListenAddr"] = listener, addr
	}
	var sessions []any
	var descriptors []int
	for _, s := range sc.sessions {
		s.HasID, s.Phase, s.Account = true, "relaying", "alice"
		s.ClientAddr = sc.far[s.ClientConnFD].LocalAddr().String()
		sessions = append(sessions, s)
		descriptors = append(descriptors, s.descriptors()...)
	}
	members["Descriptors"] = descriptors
	state, err := daemontest.StateFile(members, sessions)
	testkit.Must(sc.t, err)
	return state
}

// TestTakeoverDamagedState: a broken byte in our own state file costs at most one
// session. The process continues to serve, at the same listener, and ends on a
// signal.
func TestTakeoverDamagedState(t *testing.T) {
	t.Parallel()
	const seed, rounds, sessions = 21, 120, 5
	for round := range takeoverRounds(rounds) {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, uint64(round)))
			sc := newTakeoverScene(t, sessions, takeoverListener(t, "tcp4"))
			former, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			f, err := former.(*net.TCPListener).File()
			if err != nil {
				t.Fatal(err)
			}
			former.Close()
			listener := sc.inherit(f)
			addr := former.Addr().String()
			c := daemontest.FileConfig().At(addr)
			c.StratumServerMap = map[string]daemontest.PoolConfig{"btc": {URL: "127.0.0.1:1", UserSuffix: "btc"}}
			c.PoolIdleSeconds = 0
			sc.p.WriteConfig(c)
			state := sc.ownState(listener, addr)
			at := rng.IntN(len(state))
			was := state[at]
			for state[at] == was {
				state[at] = []byte{was ^ 1<<rng.IntN(8), byte(rng.IntN(256)), '\n', '"', '0' + byte(rng.IntN(10))}[rng.IntN(5)]
			}
			sc.start(state)
			if sc.p.Addr != addr {
				t.Errorf("the daemon listens at %s, want %s", sc.p.Addr, addr)
			}
			var lost []error
			for i := range sc.sessions {
				if err := sc.wantRelayed(i); err != nil {
					lost = append(lost, err)
					for _, fd := range sc.sessions[i].descriptors() {
						if err := wantClosed(sc.far[fd]); err != nil {
							t.Errorf("session %d is lost, descriptor %d: %v", i, fd, err)
						}
					}
				}
			}
			if len(lost) > 1 {
				t.Errorf("%d sessions are lost: %v", len(lost), lost)
			}
			sc.wantServed()
			if t.Failed() {
				t.Logf("byte %d is %q instead of %q: %q", at, state[at], was, state[max(0, at-60):min(len(state), at+60)])
			}
		})
	}
}

// TestTakeoverStateWithoutConfig: a state file that has no configuration to return
// to is an error, and not a panic.
func TestTakeoverStateWithoutConfig(t *testing.T) {
	t.Parallel()
	ln := takeoverListener(t, "tcp4")
	for _, config := range []string{`null`, `{}`, `{"StratumServerMap":{"btc":{"URL":"nowhere"}}}`} {
		sc := newTakeoverScene(t, 1, ln)
		path := filepath.Join(sc.p.Dir, runtimeFile)
		state := `{"Action":"upgrade","ServerID":1,"Version":1,"ChainType":"ethereum","Config":` + config + `,"SessionDatas":[]}`
		if err := os.WriteFile(path, []byte(state), 0o600); err != nil {
			t.Fatal(err)
		}
		sc.p.StartQuietly("-logtostderr", "-runtime", runtimeFile)
		sc.p.WaitLog(`stratumSwitcher: ChainType is "bitcoin", was "ethereum"`)
		<-sc.p.Ended
		if code := sc.p.Cmd.ProcessState.ExitCode(); code != 1 {
			t.Errorf("the daemon ended with %v", sc.p.Cmd.ProcessState)
		}
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("%s still exists: %v", runtimeFile, err)
		}
	}
}

// TestTakeoverSoundConnections: a connection counts if it has a peer. It may be
// IPv4 or IPv6, the peer may have stopped sending, or be at a port that no
// configuration has. A session of an older switcher with a connection that was
// reset is dropped. In a session of our own, the pool is connected again.
func TestTakeoverSoundConnections(t *testing.T) {
	t.Parallel()
	four, six := takeoverListener(t, "tcp4"), takeoverListener(t, "tcp6")
	reset := func(conn net.Conn) {
		conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}
	for _, c := range []struct {
		name string
		ln   net.Listener
		do   func(miner, pool net.Conn)
		ours bool
		kept int
	}{
		{name: "IPv4", ln: four, kept: 2},
		{name: "IPv6", ln: six, kept: 2},
		{name: "pool has stopped sending", ln: four, do: func(_, pool net.Conn) { pool.(*net.TCPConn).CloseWrite() }, kept: 2},
		{name: "pool has reset", ln: four, do: func(_, pool net.Conn) { reset(pool) }, kept: 1},
		{name: "miner has reset", ln: six, do: func(miner, _ net.Conn) { reset(miner) }, kept: 1},
		{name: "pool has reset, ours", ln: six, do: func(_, pool net.Conn) { reset(pool) }, ours: true, kept: 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			sc := newTakeoverScene(t, 2, c.ln)
			if c.do != nil {
				c.do(sc.far[sc.sessions[0].ClientConnFD], sc.far[sc.sessions[0].ServerConnFD])
			}
			state := olderState(t, sc.sessions)
			if c.ours {
				state = sc.ownState(0, "")
			}
			sc.start(state)
			sc.p.WaitLog(fmt.Sprintf(`upgraded version=one sessions=%d lost=%d `, c.kept, 2-c.kept))
			if c.kept == 1 {
				// The half that still exists does not wait for ever.
				for _, fd := range sc.sessions[0].descriptors() {
					if err := wantClosed(sc.far[fd]); err != nil {
						t.Error(err)
					}
				}
			}
			if err := sc.wantRelayed(1); err != nil {
				t.Error(err)
			}
			sc.wantServed()
		})
	}
}
