//go:build linux && e2e

package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// olderVariable makes the test binary an older switcher. On SIGUSR2 it writes a
// runtime.json with only the fields that docs/protocol.md lists, and becomes the
// binary whose path is the variable's value.
const olderVariable = "STRATUM_SWITCHER_TEST_OLDER"

func init() {
	if binary := os.Getenv(olderVariable); binary != "" {
		fmt.Fprintln(os.Stderr, "older switcher:", runOlder(binary))
		os.Exit(1)
	}
}

// olderSession is a session of the older switcher, which copies bytes by goroutines
// and blocking descriptors.
type olderSession struct {
	id            uint32
	coin          string
	miner, pool   net.Conn
	subscribe     map[string]any
	authorize     map[string]any
	minerR, poolR *bufio.Reader
}

type olderSwitcher struct {
	config *daemontest.Config
	coins  map[string]string

	mu       sync.Mutex
	sessions []*olderSession
}

func runOlder(binary string) error {
	again := make(chan os.Signal, 1)
	signal.Notify(again, syscall.SIGUSR2)
	o := &olderSwitcher{}
	var err error
	if err = readJSON("config.json", &o.config); err != nil {
		return err
	}
	if err = readJSON("coins.json", &o.coins); err != nil {
		return err
	}
	ln, err := net.Listen("tcp", o.config.ListenAddr)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "listening addr=%s\n", ln.Addr())
	go func() {
		for i := 0; ; i++ {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go o.serve(uint32(i), conn)
		}
	}()
	<-again
	ln.Close()
	return o.upgrade(binary)
}

func readJSON(path string, to any) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, to)
}

func (o *olderSwitcher) serve(i uint32, conn net.Conn) {
	s := &olderSession{miner: conn, minerR: bufio.NewReader(conn)}
	if err := o.handshake(s, i); err != nil {
		fmt.Fprintln(os.Stderr, "older switcher: session:", err)
		conn.Close()
		return
	}
	o.mu.Lock()
	o.sessions = append(o.sessions, s)
	fmt.Fprintf(os.Stderr, "relaying %d\n", len(o.sessions))
	o.mu.Unlock()
	go io.Copy(s.pool, s.minerR)
	io.Copy(s.miner, s.poolR)
}

func (o *olderSwitcher) handshake(s *olderSession, i uint32) error {
	ethereum := o.config.ChainType == "ethereum"
	if s.id = 1<<24 | (128 + i); ethereum {
		s.id = 1<<16 | (128 + i)
	}
	answerTo := func(id any) error {
		text, err := json.Marshal(id)
		if err != nil {
			return err
		}
		for {
			line, err := s.poolR.ReadString('\n')
			if err != nil {
				return err
			}
			if strings.Contains(line, `"auth"`) {
				_, err = io.WriteString(s.miner, strings.Replace(line, `"auth"`, string(text), 1))
				return err
			}
		}
	}
	for {
		line, err := s.minerR.ReadBytes('\n')
		if err != nil {
			return err
		}
		var r map[string]any
		if err := json.Unmarshal(line, &r); err != nil {
			return err
		}
		id, _ := json.Marshal(r["id"])
		switch r["method"] {
		case "mining.subscribe":
			s.subscribe = r
			if ethereum {
				fmt.Fprintf(s.miner, `{"id":%s,"result":true,"error":null}`+"\n", id)
			} else {
				fmt.Fprintf(s.miner, `{"id":%s,"result":[[["mining.set_difficulty","%08x"],["mining.notify","%08x"]],"%08x",8],"error":null}`+"\n", id, s.id, s.id, s.id)
			}
		case "mining.authorize", "eth_submitLogin":
			s.authorize = r
			if s.subscribe == nil { // the miner sends none, so an older switcher makes one up
				s.subscribe = map[string]any{"id": nil, "method": "mining.subscribe", "params": []any{"ETHProxy", "ETHProxy/1.0.0"}}
			}
			account, _, _ := strings.Cut(r["params"].([]any)[0].(string), ".")
			s.coin = o.coins[account]
			if s.pool, err = net.Dial("tcp", o.config.StratumServerMap[s.coin].URL); err != nil {
				return err
			}
			s.poolR = bufio.NewReader(s.pool)
			params := append([]any(nil), s.subscribe["params"].([]any)...)
			want := 1
			extranonce := fmt.Sprintf("%08x", s.id)
			if ethereum {
				want, extranonce = 2, fmt.Sprintf("%06x", s.id)
			}
			for len(params) < want {
				params = append(params, "Stratum")
			}
			params = append(params[:want], extranonce, 0x7f000001)
			w := json.NewEncoder(s.pool)
			w.Encode(map[string]any{"id": "subscribe", "method": "mining.subscribe", "params": params})
			request := map[string]any{"id": "auth", "method": r["method"], "params": r["params"]}
			if worker := r["worker"]; worker != nil {
				request["worker"] = worker
			}
			w.Encode(request)
			return answerTo(r["id"])
		default:
			fmt.Fprintf(s.miner, `{"id":%s,"result":true,"error":null}`+"\n", id)
		}
	}
}

func (o *olderSwitcher) upgrade(binary string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	descriptor := func(c net.Conn) int {
		f, err := c.(*net.TCPConn).File() // File duplicates the descriptor
		if err != nil {
			panic(err)
		}
		fd := int(f.Fd()) // Fd makes it blocking
		syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_SETFD, 0)
		return fd
	}
	request := func(r map[string]any) map[string]any {
		kept := map[string]any{"id": r["id"], "method": r["method"], "params": r["params"]}
		if r["worker"] != nil {
			kept["worker"] = r["worker"]
		}
		return kept
	}
	var list []any
	for _, s := range o.sessions {
		list = append(list, map[string]any{
			"SessionID": s.id, "MiningCoin": s.coin, "ClientConnFD": descriptor(s.miner), "ServerConnFD": descriptor(s.pool),
			"StratumSubscribeRequest": request(s.subscribe), "StratumAuthorizeRequest": request(s.authorize), "VersionMask": 0,
		})
	}
	text, err := json.Marshal(map[string]any{"Action": "upgrade", "ServerID": 1, "SessionDatas": list})
	if err != nil {
		return err
	}
	if err := os.WriteFile("runtime.json", text, 0o644); err != nil {
		return err
	}
	os.Unsetenv(olderVariable)
	return syscall.Exec(binary, append(append([]string{binary}, os.Args[1:]...), "-runtime", "runtime.json"), os.Environ())
}

// startOlder runs an older switcher, which p.binary will replace.
func startOlder(t *testing.T, c *daemontest.Config, coins map[string]string) *daemontest.Daemon {
	t.Helper()
	p := daemontest.New(t, t.TempDir())
	p.WriteConfig(c)
	p.SetCoins(coins)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	binary := p.Binary
	p.Binary = self
	p.Env = []string{olderVariable + "=" + binary}
	p.Start("-logtostderr", "-v=1")
	p.Binary = binary
	return p
}

func TestUpgradeFromOlder(t *testing.T) {
	t.Parallel()
	btc, bcc := testkit.TwoPools(t)
	gone := testkit.StartPool(t, stratumtest.PoolOptions{Name: "gone", ShareBits: 4})
	c := daemontest.FileConfig(btc, bcc, gone)
	c.ListenAddr = testkit.UnusedAddr(t)
	coins := map[string]string{"alice": "btc", "bob": "bcc", "carol": "gone"}
	p := startOlder(t, c, coins)
	var miners []*stratumtest.Miner
	for i := range 12 {
		account := []string{"alice", "bob", "carol"}[i%3]
		miners = append(miners, testkit.StartMiner(t, stratumtest.MinerOptions{Addr: p.Addr, Worker: fmt.Sprintf("%s.w%d", account, i), Manual: true}))
	}
	for _, m := range miners {
		if err := m.WaitFor(testkit.LongWaitContext(t), func(st stratumtest.MinerStats) bool { return st.LastJobID != "" }); err != nil {
			t.Fatal(err)
		}
	}
	p.WaitLog("relaying 12")
	submit := func(pools ...string) {
		t.Helper()
		for i, m := range miners {
			pool := pools[i%len(pools)]
			if err := m.WaitPool(testkit.LongWaitContext(t), pool); err != nil {
				t.Fatalf("miner %s is not at pool %s: %+v", m.Worker(), pool, m.Stats())
			}
			if code, err := m.Submit(testkit.LongWaitContext(t), nil); err != nil || code != 0 {
				t.Errorf("the share of %s got code %d, %v; want it accepted", m.Worker(), code, err)
			}
			testkit.CheckMiner(t, m)
		}
	}
	submit("btc", "bcc", "gone")
	extranonce := miners[0].Extranonce1()
	p.WriteConfig(daemontest.FileConfig(btc, bcc).At(c.ListenAddr)) // one coin is gone
	sessions, lost, pause := p.Upgrade()
	if sessions != "12" || lost != "0" {
		t.Errorf("got sessions=%s lost=%s, want all and none", sessions, lost)
	}
	t.Logf("pause %s", pause)
	submit("btc", "bcc", "gone")
	// New miners get session IDs that are not in use.
	m := testkit.StartMiner(t, stratumtest.MinerOptions{Addr: p.Addr, Worker: "alice.new", Manual: true})
	if err := m.WaitAuthorized(testkit.LongWaitContext(t)); err != nil {
		t.Fatal(err)
	}
	if m.Extranonce1() == extranonce {
		t.Errorf("extranonce %s was given twice", extranonce)
	}
	checkInherited(t, p, 2*12+2)
	p.SetCoins(map[string]string{"*": "bcc"})
	submit("bcc")
	p.GoodUpgrade()
	submit("bcc")
	p.SetCoins(map[string]string{"*": "btc"})
	submit("btc")
	for _, pool := range []*stratumtest.Pool{btc, bcc, gone} {
		testkit.CheckPool(t, pool)
	}
	if _, err := os.Stat(filepath.Join(p.Dir, "runtime.json")); !os.IsNotExist(err) {
		t.Errorf("runtime.json still exists: %v", err)
	}
}

// checkInherited checks that the inherited connections are like the daemon's own:
// non-blocking and close-on-exec.
func checkInherited(t *testing.T, p *daemontest.Daemon, connections int) {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/", p.Cmd.Process.Pid)
	entries, err := os.ReadDir(dir + "fd")
	if err != nil {
		t.Fatal(err)
	}
	sockets := 0
	for _, e := range entries {
		target, err := os.Readlink(dir + "fd/" + e.Name())
		if err != nil || !strings.HasPrefix(target, "socket:") {
			continue
		}
		sockets++
		text, err := os.ReadFile(dir + "fdinfo/" + e.Name())
		if err != nil {
			t.Fatal(err)
		}
		var flags int
		for _, line := range strings.Split(string(text), "\n") {
			fmt.Sscanf(line, "flags:\t%o", &flags)
		}
		if flags&syscall.O_NONBLOCK == 0 || flags&syscall.O_CLOEXEC == 0 {
			t.Errorf("descriptor %s has flags %o", e.Name(), flags)
		}
	}
	if want := connections + 1; sockets != want { // and the listener
		t.Errorf("the daemon has %d sockets, want %d", sockets, want)
	}
}

func TestUpgradeFromOlderEthereum(t *testing.T) {
	t.Parallel()
	var pools []*stratumtest.Pool
	for _, name := range []string{"eth", "etc"} {
		pools = append(pools, testkit.StartPool(t, stratumtest.PoolOptions{Name: name, Chain: stratumtest.Ethereum, ShareBits: 4}))
	}
	c := daemontest.FileConfig(pools...)
	c.ChainType = "ethereum"
	c.ListenAddr = testkit.UnusedAddr(t)
	p := startOlder(t, c, map[string]string{"alice": "eth"})
	proxy, plain := stratumtest.DialRaw(t, p.Addr), stratumtest.DialRaw(t, p.Addr)
	proxy.SendLine(`{"id":1,"method":"eth_submitLogin","params":["alice"],"worker":"rig"}`)
	plain.SendLine(`{"id":1,"method":"mining.subscribe","params":["x"]}`)
	plain.SendLine(`{"id":2,"method":"mining.authorize","params":["alice.rig2","x"]}`)
	first := readUntil(t, proxy, `"0x`)
	readUntil(t, plain, `mining.notify`)
	p.WaitLog("relaying 2")
	p.GoodUpgrade()

	// Jobs and answers continue in the form of each miner.
	pools[0].NewJob(true)
	if line := readUntil(t, proxy, `"0x`); line == first || !strings.Contains(line, `"jsonrpc"`) {
		t.Errorf("unexpected job %s", line)
	}
	readUntil(t, plain, `mining.notify`)
	proxy.SendLine(`{"id":7,"method":"eth_submitHashrate","params":["0x1","0x2"]}`)
	readUntil(t, proxy, `"id":7`)
	subscribes := len(pools[1].Subscribes())
	p.SetCoins(map[string]string{"alice": "etc"})
	if line := readUntil(t, proxy, `"0x`); !strings.Contains(line, `"jsonrpc"`) {
		t.Errorf("unexpected job %s", line)
	}
	readUntil(t, plain, `mining.notify`)
	got := strings.Join(pools[1].Subscribes()[subscribes:], "\n")
	for _, want := range []string{`["ETHProxy","ETHProxy/1.0.0","0100`, `["x","Stratum","0100`} {
		if !strings.Contains(got, want) {
			t.Errorf("the other pool was told %s, want %s", got, want)
		}
	}
	names := strings.Join(pools[1].Authorized(), " ")
	if !strings.Contains(names, "alice.rig ") && !strings.HasSuffix(names, "alice.rig") || !strings.Contains(names, "alice.rig2") {
		t.Errorf("unexpected workers at the other pool: %s", names)
	}
	for _, pool := range pools {
		testkit.CheckPool(t, pool)
	}
}

// The address of the older switcher is in use when the new program begins. The
// miners are kept all the same.
func TestUpgradeFromOlderPortTaken(t *testing.T) {
	t.Parallel()
	btc, _ := testkit.TwoPools(t)
	c := daemontest.FileConfig(btc)
	c.ListenAddr = testkit.UnusedAddr(t)
	p := startOlder(t, c, map[string]string{"alice": "btc"})
	m := testkit.StartMiner(t, stratumtest.MinerOptions{Addr: p.Addr, Worker: "alice.1", Manual: true})
	if err := m.WaitFor(testkit.LongWaitContext(t), func(st stratumtest.MinerStats) bool { return st.LastJobID != "" }); err != nil {
		t.Fatal(err)
	}
	p.WaitLog("relaying 1")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c.ListenAddr = taken.Addr().String()
	p.WriteConfig(c)
	p.Signal(syscall.SIGUSR2)
	p.WaitLog("NO NEW MINERS")
	if _, err := os.Stat(p.Path(runtimeFile)); !os.IsNotExist(err) {
		t.Errorf("%s still exists although it was read: %v", runtimeFile, err)
	}
	if code, err := m.Submit(testkit.LongWaitContext(t), nil); err != nil || code != 0 {
		t.Errorf("a share got code %d, %v; want it accepted", code, err)
	}
	taken.Close()
	p.WaitLog("upgraded version=one sessions=1 lost=0")
	testkit.WantNewMiner(t, c.ListenAddr, "alice")
}

// startWithState runs the daemon as the successor of a process that has left this
// state file and two connections.
func startWithState(t *testing.T, c *daemontest.Config, prepare func(path string)) (p *daemontest.Daemon, inherited net.Conn) {
	t.Helper()
	p = daemontest.New(t, t.TempDir())
	p.WriteConfig(c)
	p.SetCoins(map[string]string{"*": "btc"})
	prepare(filepath.Join(p.Dir, "runtime.json"))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	inherited, err = net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { inherited.Close() })
	other, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	f, err := other.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p.Inherit = []*os.File{f} // becomes descriptor 3
	p.Start("-logtostderr", "-v=1", "-runtime", "runtime.json")
	return p, inherited
}

// TestUpgradeStateRefused: a state file that cannot be trusted or read is not used.
// The process starts from nothing and keeps no inherited connection open.
func TestUpgradeStateRefused(t *testing.T) {
	t.Parallel()
	btc, _ := testkit.TwoPools(t)
	const good = `{"Action":"upgrade","ServerID":1,"SessionDatas":[]}`
	write := func(content string, mode os.FileMode) func(string) {
		return func(path string) {
			if err := os.WriteFile(path, []byte(content), mode); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		name    string
		prepare func(path string)
		want    string
	}{
		{"missing", func(string) {}, "no such file"},
		{"other owner", func(path string) { write(good, 0o600)(path); os.Chown(path, 12345, 12345) }, "must be a regular file of this user"},
		{"group-writable", write(good, 0o620), "must be a regular file of this user"},
		{"world-writable", write(good, 0o602), "must be a regular file of this user"},
		{"symbolic link", func(path string) { write(good, 0o600)(path + ".real"); os.Symlink(path+".real", path) }, "symbolic links"},
		{"directory", func(path string) { os.Mkdir(path, 0o700) }, "must be a regular file of this user"},
		{"pipe", func(path string) { syscall.Mkfifo(path, 0o600) }, "must be a regular file of this user"},
		{"newer version", write(`{"Action":"upgrade","ServerID":1,"Version":1000,"SessionDatas":[]}`, 0o600), "Version 1000 is newer"},
		{"another action", write(`{"Action":"downgrade","ServerID":1}`, 0o600), "Action is"},
		{"garbage", write("\x00\x01garbage", 0o600), "runtime file"},
		{"cut off", write(good[:30], 0o600), "runtime file"},
		{"empty", write("", 0o600), "runtime file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, inherited := startWithState(t, daemontest.FileConfig(btc), c.prepare)
			p.WaitLog("resume: .*" + c.want + ".*starting anew")
			inherited.SetReadDeadline(time.Now().Add(testkit.LongWait))
			if n, err := inherited.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Errorf("the inherited connection is still open: read %d bytes, %v", n, err)
			}
			testkit.WantNewMiner(t, p.Addr, "alice")
			os.RemoveAll(filepath.Join(p.Dir, "runtime.json"))
			p.GoodUpgrade()
		})
	}
}

// TestUpgradeStateNonsense: impossible sessions in the state file are logged and
// cost nothing else.
func TestUpgradeStateNonsense(t *testing.T) {
	t.Parallel()
	btc, _ := testkit.TwoPools(t)
	p, inherited := startWithState(t, daemontest.FileConfig(btc), func(path string) {
		content := `{"Action":"upgrade","ServerID":1,"Version":1,"SessionDatas":[
			{"SessionID":16777344,"HasID":true,"ClientConnFD":3,"ServerConnFD":-1,"Phase":"relaying","MiningCoin":"btc"},
			{"SessionID":16777345,"HasID":true,"ClientConnFD":999,"ServerConnFD":-1,"Phase":"handshaking"},
			{"SessionID":16777346,"HasID":true,"ClientConnFD":1000,"ServerConnFD":1001,"Phase":"nowhere"}]}`
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	})
	p.WaitLog("upgraded version=one sessions=0 lost=3")
	inherited.SetReadDeadline(time.Now().Add(testkit.LongWait))
	if _, err := inherited.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the inherited connection is still open: %v", err)
	}
	testkit.WantNewMiner(t, p.Addr, "alice")
}
