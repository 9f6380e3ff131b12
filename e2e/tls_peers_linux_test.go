//go:build linux && e2e

package e2e

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// TLS is tested with programs by others on both sides: openssl, HAProxy and
// stunnel. The configurations of the last two are those of docs/tls.md.

// pageBlock returns the block of docs/tls.md with this beginning, after the
// replacements that its reader has to make.
func pageBlock(t *testing.T, beginning string, replace ...string) string {
	t.Helper()
	page, err := os.ReadFile("docs/tls.md")
	testkit.Must(t, err)
	for _, m := range fenced.FindAllStringSubmatch(string(page), -1) {
		if strings.HasPrefix(m[2], beginning) {
			for i := 0; i < len(replace); i += 2 {
				if !strings.Contains(m[2], replace[i]) {
					t.Fatalf("the block does not contain %q:\n%s", replace[i], m[2])
				}
			}
			return strings.NewReplacer(replace...).Replace(m[2])
		}
	}
	t.Fatalf("docs/tls.md has no block that begins with %q", beginning)
	return ""
}

// startPeer runs a program until the end of the test and waits for its ports.
func startPeer(t *testing.T, ports []string, name string, args ...string) {
	t.Helper()
	needTools(t, name)
	cmd := exec.Command(name, args...)
	out := new(strings.Builder)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	testkit.Must(t, cmd.Start())
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("%s:\n%s", name, out)
		}
	})
	for _, at := range ports {
		testkit.WaitUntil(t, name+" at "+at, func() bool {
			c, err := net.Dial("tcp", at)
			if err == nil {
				c.Close()
			}
			return err == nil
		})
	}
}

// startHAProxy runs HAProxy with this configuration.
func startHAProxy(t *testing.T, config string, ports ...string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "haproxy.cfg")
	testkit.WriteFile(t, path, config)
	startPeer(t, ports, "haproxy", "-db", "-f", path)
}

// startStunnel runs stunnel with this configuration, which has one service.
func startStunnel(t *testing.T, config string, ports ...string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "stunnel.conf")
	testkit.WriteFile(t, path, "foreground = yes\npid =\n"+config)
	startPeer(t, ports, "stunnel4", path)
}

// bundle returns a file with the certificate for names and its key.
func (w *tlsWorld) bundle(names ...string) string {
	w.t.Helper()
	dir := w.t.TempDir()
	cert, key := w.Issue(dir, time.Now().Add(90*24*time.Hour), names...)
	var all []byte
	for _, path := range []string{cert, key} {
		text, err := os.ReadFile(path)
		testkit.Must(w.t, err)
		all = append(all, text...)
	}
	path := filepath.Join(dir, "bundle.pem")
	testkit.WriteFile(w.t, path, string(all))
	return path
}

// openSSL is a miner that types its lines into openssl s_client.
type openSSL struct {
	t     *testing.T
	in    io.WriteCloser
	lines *bufio.Scanner
}

func (w *tlsWorld) openSSL(addr string, args ...string) *openSSL {
	w.t.Helper()
	needTools(w.t, "openssl")
	cmd := exec.Command("openssl", append([]string{"s_client", "-connect", addr, "-servername", "switcher.test",
		"-CAfile", w.File, "-verify_return_error", "-quiet"}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	testkit.Must(w.t, err)
	out, err := cmd.StdoutPipe()
	testkit.Must(w.t, err)
	testkit.Must(w.t, cmd.Start())
	w.t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return &openSSL{w.t, in, bufio.NewScanner(out)}
}

func (m *openSSL) say(line string) {
	m.t.Helper()
	_, err := io.WriteString(m.in, line+"\n")
	testkit.Must(m.t, err)
}

// hear returns the next line that contains text.
func (m *openSSL) hear(text string) string {
	m.t.Helper()
	for m.lines.Scan() {
		if strings.Contains(m.lines.Text(), text) {
			return m.lines.Text()
		}
	}
	m.t.Fatalf("openssl ended without %q", text)
	return ""
}

// found is what the page's search says about the miners whose worker contains this
// text.
func found(t *testing.T, http string, text string) (miners []struct{ Address, Worker, TLS string }) {
	t.Helper()
	var reply struct {
		Miners []struct{ Address, Worker, TLS string }
	}
	getJSON(t, "http://"+http+"/api/search?"+url.Values{"q": {text}}.Encode(), &reply)
	return reply.Miners
}

// openssl mines with TLS 1.2 and 1.3 and through an upgrade. Older versions, a
// missing common cipher, and renegotiation are refused.
func TestTLSPeerOpenSSL(t *testing.T) {
	t.Parallel()
	w := newTLSWorld(t)
	btc := testkit.StartPool(t, stratumtest.PoolOptions{Name: "btc"})
	c := w.config([]*stratumtest.Pool{btc})
	c.EnableHTTPDebug, c.HTTPDebugListenAddr = true, testkit.UnusedAddr(t)
	d := daemontest.Start(t, c, map[string]string{"*": "btc"})
	miners := make(map[string]*openSSL)
	for _, version := range []string{"1.2", "1.3"} {
		m := w.openSSL(d.Addr, "-tls"+strings.ReplaceAll(version, ".", "_"))
		m.say(`{"id":1,"method":"mining.subscribe","params":["openssl"]}`)
		m.hear(`"id":1`)
		m.say(`{"id":2,"method":"mining.authorize","params":["alice.v` + version + `","x"]}`)
		m.hear(`"id":2,"result":true`)
		m.hear(`mining.notify`)
		miners[version] = m
		if f := found(t, c.HTTPDebugListenAddr, "v"+version); len(f) != 1 || f[0].TLS != version {
			t.Errorf("the search found %+v, want one miner with TLS %s", f, version)
		}
	}
	d.Upgrade()
	for version, m := range miners {
		m.say(`{"id":3,"method":"mining.extranonce.subscribe","params":[]}`)
		m.hear(`"id":3`)
		if f := found(t, c.HTTPDebugListenAddr, "v"+version); len(f) != 1 || f[0].TLS != version {
			t.Errorf("after the upgrade the search found %+v, want one miner with TLS %s", f, version)
		}
	}
	for name, args := range map[string][]string{
		"TLS 1.1":    {"-tls1_1", "-cipher", "ALL:@SECLEVEL=0"},
		"no cipher":  {"-tls1_2", "-cipher", "AES256-SHA256"},
		"other name": {"-verify_hostname", "other.test"},
	} {
		out, err := exec.Command("openssl", append([]string{"s_client", "-connect", d.Addr, "-servername", "switcher.test", "-CAfile", w.File, "-verify_return_error"}, args...)...).CombinedOutput()
		if err == nil {
			t.Errorf("%s is accepted, want a refusal:\n%s", name, out)
		}
	}
	var status struct {
		TLS struct {
			Miners    map[string]int
			Processes []struct{ Connections int }
			Handshake struct {
				Failed map[string]int
			} `json:"miner_handshakes"`
		} `json:"tls"`
	}
	testkit.WaitUntil(t, "handshakes that failed are counted", func() bool {
		getJSON(t, "http://"+c.HTTPDebugListenAddr+"/api/status", &status)
		return status.TLS.Handshake.Failed["old_version"] == 1 && status.TLS.Handshake.Failed["no_common_cipher"] == 1
	})
	if status.TLS.Miners["1.2"] != 1 || status.TLS.Miners["1.3"] != 1 || len(status.TLS.Processes) != 1 {
		t.Errorf("unexpected TLS counts in the status: %+v", status.TLS)
	}
	metrics := textOf(t, "http://"+c.HTTPDebugListenAddr+"/metrics")
	for _, want := range []string{
		`tls_sessions{version="1.2"} 1`, `tls_sessions{version="1.3"} 1`, `tls_pool_links{version="none"} 2`,
		`tls_handshake_failures_total{reason="old_version",side="miners"} 1`, `tls_handshakes_total{side="pools"} 0`,
		`tls_certificate_refused 0`, `tunnel_processes{generation="current"} 1`, `tunnel_connections{generation="current"} 2`,
	} {
		if !strings.Contains(metrics, "\nstratum_switcher_"+want+"\n") {
			t.Errorf("there is no metric %s", want)
		}
	}
	until := regexp.MustCompile(`\nstratum_switcher_tls_certificate_expiry_timestamp_seconds (\S+)`).FindStringSubmatch(metrics)
	if until == nil {
		t.Fatal("there is no metric for the certificate's end")
	}
	if end, err := strconv.ParseFloat(until[1], 64); err != nil || time.Until(time.Unix(int64(end), 0)).Round(24*time.Hour) != 90*24*time.Hour {
		t.Errorf("the certificate ends at %s according to the metric, which is wrong", until[1])
	}
}

// frontOf starts a program in front of the switcher or of a pool.
type frontOf func(t *testing.T, w *tlsWorld, at, to string)

// front is a program in front of the switcher, with miners in front of it.
type front struct {
	t     *testing.T
	d     *daemontest.Daemon
	page  string // HTTP address
	pool  *stratumtest.Pool
	fleet *stratumtest.Fleet
}

// startFront starts a daemon with the configuration for its pool, the program in
// front of it, and ten miners, which mine. A nil miner is one without TLS.
func (w *tlsWorld) startFront(start frontOf, miner *tls.Config, config func(...*stratumtest.Pool) *daemontest.Config) *front {
	w.t.Helper()
	f := &front{t: w.t, page: testkit.UnusedAddr(w.t), pool: testkit.StartPool(w.t, stratumtest.PoolOptions{Name: "btc", ShareBits: 4})}
	c := config(f.pool)
	c.TrustedProxies = []string{"127.0.0.1"}
	c.EnableHTTPDebug, c.HTTPDebugListenAddr = true, f.page
	f.d = daemontest.Start(w.t, c, map[string]string{"*": "btc"})
	at := testkit.UnusedAddr(w.t)
	start(w.t, w, at, f.d.Addr)
	f.fleet = testkit.FleetOf(w.t, at, "alice", 10, 100, stratumtest.MinerOptions{TLS: miner})
	testkit.WantMining(w.t, f.fleet.Miners(), "btc")
	return f
}

// upgrade upgrades the daemon and then wants no share lost.
func (f *front) upgrade() {
	f.t.Helper()
	f.d.Upgrade()
	testkit.SettleFleet(f.t, f.fleet)
	testkit.CheckPool(f.t, f.pool)
}

// HAProxy and stunnel handle the miners' TLS in front of the switcher, which learns
// the miners' addresses by the PROXY protocol.
func TestTLSPeersInFront(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]frontOf{
		"HAProxy": func(t *testing.T, w *tlsWorld, at, to string) {
			startHAProxy(t, pageBlock(t, "defaults\n", ":3443", at, "/etc/haproxy/cert.pem", w.bundle("switcher.test"), "127.0.0.1:18080", to), at)
		},
		"stunnel": func(t *testing.T, w *tlsWorld, at, to string) {
			startStunnel(t, pageBlock(t, "[miners]\n", "accept = 3443", "accept = "+at, "/etc/stunnel/cert.pem", w.bundle("switcher.test"), "127.0.0.1:18080", to), at)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newTLSWorld(t)
			f := w.startFront(start, w.miner(), daemontest.FileConfig)
			for _, m := range found(t, f.page, "alice") {
				if m.TLS != "" || !strings.HasPrefix(m.Address, "127.0.0.1:") {
					t.Errorf("the search found %+v, want a miner without TLS", m)
				}
			}
			ours := make(map[string]bool)
			for _, m := range f.fleet.Miners() {
				ours[m.Addr()] = true
			}
			for _, m := range found(t, f.page, "alice") {
				if !ours[m.Address] {
					t.Errorf("the search found the address %s, which is no miner's", m.Address)
				}
			}
			f.upgrade()
		})
	}
}

// HAProxy and stunnel speak TLS with the switcher, in front of miners without TLS.
// The PROXY header comes before TLS.
func TestTLSPeersAsClients(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]frontOf{
		"HAProxy": func(t *testing.T, w *tlsWorld, at, to string) {
			startHAProxy(t, fmt.Sprintf("defaults\n mode tcp\n timeout connect 5s\n timeout client 1h\n timeout server 1h\nfrontend miners\n bind %s\n default_backend switcher\n"+
				"backend switcher\n server switcher %s ssl verify required ca-file %s verifyhost switcher.test sni str(switcher.test) send-proxy-v2\n", at, to, w.File), at)
		},
		"stunnel": func(t *testing.T, w *tlsWorld, at, to string) {
			startStunnel(t, fmt.Sprintf("[switcher]\nclient = yes\naccept = %s\nconnect = %s\nCAfile = %s\nverifyChain = yes\ncheckHost = switcher.test\nsni = switcher.test\n", at, to, w.File), at)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newTLSWorld(t)
			f := w.startFront(start, nil, func(pools ...*stratumtest.Pool) *daemontest.Config {
				c := w.config(pools)
				c.TLSRequired = true
				return c
			})
			miners := found(t, f.page, "alice")
			if len(miners) != 10 {
				t.Errorf("the search found %d miners, want all", len(miners))
			}
			for _, m := range miners {
				if m.TLS != "1.3" {
					t.Errorf("the search found %+v, want a miner with TLS", m)
				}
			}
			f.upgrade()
		})
	}
}

// HAProxy and stunnel handle TLS in front of a pool.
func TestTLSPeersAsPools(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]frontOf{
		"HAProxy": func(t *testing.T, w *tlsWorld, at, to string) {
			startHAProxy(t, fmt.Sprintf("defaults\n mode tcp\n timeout connect 5s\n timeout client 1h\n timeout server 1h\nfrontend pool\n bind %s ssl crt %s\n default_backend pool\n"+
				"backend pool\n server pool %s\n", at, w.bundle(poolHost), to), at)
		},
		"stunnel": func(t *testing.T, w *tlsWorld, at, to string) {
			startStunnel(t, fmt.Sprintf("[pool]\naccept = %s\nconnect = %s\ncert = %s\n", at, to, w.bundle(poolHost)), at)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newTLSWorld(t)
			btc, bcc := testkit.StartPool(t, stratumtest.PoolOptions{Name: "btc", ShareBits: 4}), testkit.StartPool(t, stratumtest.PoolOptions{Name: "bcc", ShareBits: 4})
			at := testkit.UnusedAddr(t)
			start(t, w, at, btc.Addr())
			c := daemontest.FileConfig(bcc)
			c.StratumServerMap["btc"] = daemontest.PoolConfig{URL: "stratum+tls://" + at, UserSuffix: "btc", TLSCAFile: w.File}
			d := daemontest.Start(t, c, map[string]string{"*": "btc"})
			fleet := testkit.FleetOf(t, d.Addr, "alice", 10, 100, stratumtest.MinerOptions{})
			testkit.WantMining(t, fleet.Miners(), "btc")
			d.Upgrade()
			for _, coin := range []string{"bcc", "btc"} {
				d.SetCoins(map[string]string{"*": coin})
				if _, err := fleet.WaitPool(testkit.LongWaitContext(t), coin); err != nil {
					t.Fatal(err)
				}
			}
			testkit.SettleFleet(t, fleet)
			testkit.CheckPool(t, btc)
			testkit.CheckPool(t, bcc)
		})
	}
}

// stunnel speaks TLS with a pool for a switcher without TLS, as on the page.
func TestTLSPeerTunnelToPool(t *testing.T) {
	t.Parallel()
	w := newTLSWorld(t)
	btc := w.pool(stratumtest.PoolOptions{Name: "btc", ShareBits: 4})
	at := testkit.UnusedAddr(t)
	startStunnel(t, pageBlock(t, "[pool]\n", "127.0.0.1:3333", at, "pool.example.com:443", btc.Addr(), "checkHost = pool.example.com", "checkIP = "+poolHost, "CApath = /etc/ssl/certs", "CAfile = "+w.File), at)
	c := daemontest.FileConfig()
	c.StratumServerMap["btc"] = daemontest.PoolConfig{URL: at, UserSuffix: "btc"}
	d := daemontest.Start(t, c, map[string]string{"*": "btc"})
	fleet := testkit.FleetOf(t, d.Addr, "alice", 5, 50, stratumtest.MinerOptions{})
	testkit.WantMining(t, fleet.Miners(), "btc")
	testkit.SettleFleet(t, fleet)
	testkit.CheckPool(t, btc)
}

// A miner program by others, which does not speak TLS itself, mines with TLS
// through stunnel and through an upgrade.
func TestTLSPeerMinerProgram(t *testing.T) {
	t.Parallel()
	needTools(t, "node")
	cache, err := os.UserCacheDir()
	testkit.Must(t, err)
	w := newTLSWorld(t)
	btc := testkit.StartPool(t, stratumtest.PoolOptions{Name: "btc", ShareBits: 3})
	c := w.config([]*stratumtest.Pool{btc})
	c.TLSRequired = true
	d := daemontest.Start(t, c, map[string]string{"*": "btc"})
	at := testkit.UnusedAddr(t)
	startStunnel(t, fmt.Sprintf("[switcher]\nclient = yes\naccept = %s\nconnect = %s\nCAfile = %s\nverifyChain = yes\ncheckHost = switcher.test\n", at, d.Addr, w.File), at)
	host, port, err := net.SplitHostPort(at)
	testkit.Must(t, err)
	cmd := exec.Command("node", filepath.Join("internal", "thirdparty", "miner.js"), host, port, "alice.js", "3")
	cmd.Env = append(os.Environ(), "TEST_PROGRAMS="+filepath.Join(cache, "stratumSwitcher", "test-programs"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	testkit.Must(t, err)
	testkit.Must(t, cmd.Start())
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	accepted := 0
	for lines := bufio.NewScanner(out); accepted < 20 && lines.Scan(); {
		switch line := lines.Text(); {
		case line == "accepted":
			if accepted++; accepted == 5 {
				d.Upgrade()
			}
		case strings.HasPrefix(line, "rejected"), strings.HasPrefix(line, "error"), line == "closed":
			t.Fatalf("after %d shares the miner program reports %q", accepted, line)
		}
	}
	if accepted < 20 {
		t.Errorf("only %d shares were accepted", accepted)
	}
	testkit.CheckPool(t, btc)
}
