//go:build linux && e2e

package e2e

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// ordinaryUser is not root and owns no files here.
const ordinaryUser = 54321

// publicDir is a directory that every user can access.
func publicDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "stratumSwitcher-user")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// The daemon only needs the rights to read its configuration and to write to its
// working directory, for upgrades too. Without the latter it continues to work and
// refuses upgrades.
func TestOrdinaryUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Fatal("becoming another user needs root")
	}
	authority := testkit.NewAuthority(t)
	btc := testkit.StartPool(t, stratumtest.PoolOptions{Name: "btc", TLS: authority.Server("127.0.0.1")})
	bcc := testkit.StartPool(t, stratumtest.PoolOptions{Name: "bcc"})
	c := daemontest.FileConfig(bcc)
	secrets := publicDir(t)
	c.TLSCertFile, c.TLSKeyFile = authority.Issue(secrets, time.Now().Add(90*24*time.Hour), "switcher.test")
	ca := filepath.Join(secrets, "ca.pem")
	command(t, "", "cp", authority.File, ca)
	command(t, "", "chown", "-R", fmt.Sprint(ordinaryUser), secrets)
	c.StratumServerMap["btc"] = daemontest.PoolConfig{URL: "stratum+ssl://" + btc.Addr(), UserSuffix: "btc", TLSCAFile: ca}
	c.EnableHTTPDebug, c.HTTPDebugListenAddr = true, testkit.UnusedAddr(t)
	p := daemontest.New(t, publicDir(t))
	p.Binary = filepath.Join(publicDir(t), "stratumSwitcher")
	p.Install(daemontest.Build(t, "one"))
	p.User = &syscall.Credential{Uid: ordinaryUser, Gid: ordinaryUser}
	p.WriteConfig(c)
	p.SetCoins(map[string]string{"alice": "btc"})
	if err := os.Chown(p.Dir, ordinaryUser, ordinaryUser); err != nil {
		t.Fatal(err)
	}
	p.Start("-logtostderr", "-v=1")
	p.WantUser(ordinaryUser)
	miners := testkit.StartMiners(t, p.Addr, "alice", 5)
	byTLS := testkit.StartMiner(t, stratumtest.MinerOptions{Addr: p.Addr, Worker: "alice.tls", Rate: 20, TLS: authority.Client("switcher.test")})
	testkit.WaitPool(t, byTLS, "btc")
	miners = append(miners, byTLS)

	p.Install(daemontest.Build(t, "two"))
	p.GoodUpgrade()
	p.WaitLog("upgraded version=two")
	p.WantUser(ordinaryUser)
	testkit.WantMining(t, miners, "btc")
	p.SetCoins(map[string]string{"alice": "bcc"})
	testkit.WantMining(t, miners, "bcc")
	p.CheckNoTemporary()

	if err := os.Chown(p.Dir, 0, 0); err != nil {
		t.Fatal(err)
	}
	p.WantNoUpgrade("permission denied")
	p.WantUser(ordinaryUser)
	testkit.WantMining(t, miners, "bcc")
	testkit.WantNewMiner(t, p.Addr, "alice")
}

// httpPatterns are the patterns of the HTTP listener, taken from the source.
func httpPatterns(t *testing.T) []string {
	t.Helper()
	source, err := os.ReadFile("status.go")
	if err != nil {
		t.Fatal(err)
	}
	var patterns []string
	for _, m := range regexp.MustCompile(`mux\.Handle(?:Func)?\("([^"]*)"`).FindAllStringSubmatch(string(source), -1) {
		patterns = append(patterns, m[1])
	}
	return patterns
}

// HTTP is read-only: no path accepts methods other than GET and HEAD, including
// those of pprof, and no request can be made to last long.
func TestHTTPTakesNoOtherMethods(t *testing.T) {
	t.Parallel()
	btc := testkit.StartPool(t, stratumtest.PoolOptions{Name: "btc"})
	c := daemontest.FileConfig(btc)
	c.EnableHTTPDebug, c.HTTPDebugListenAddr = true, testkit.UnusedAddr(t)
	daemontest.Start(t, c, map[string]string{"*": "btc"})
	ask := func(method, path string) (status int) {
		t.Helper()
		conn, err := net.Dial("tcp", c.HTTPDebugListenAddr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(testkit.LongWait))
		const body = `{"alice":"bcc"}`
		fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", method, path, len(body), body)
		line, err := bufio.NewReader(conn).ReadString('\n')
		if _, scanErr := fmt.Sscanf(line, "HTTP/1.1 %d", &status); scanErr != nil {
			t.Fatalf("%s %s: got status line %q, %v", method, path, line, err)
		}
		return status
	}
	var paths []string
	for _, pattern := range httpPatterns(t) {
		path, ok := strings.CutPrefix(pattern, "GET ")
		if !ok {
			t.Errorf("%q accepts all methods", pattern)
		}
		paths = append(paths, strings.TrimSuffix(path, "{$}"))
	}
	for _, path := range []string{"/", "/metrics", "/api/status", "/debug/pprof/"} {
		if !slices.Contains(paths, path) {
			t.Fatalf("no %s in %q", path, paths)
		}
	}
	for _, profile := range []string{"heap", "allocs", "goroutine", "block", "mutex", "threadcreate", "nothing"} {
		paths = append(paths, "/debug/pprof/"+profile)
	}
	for _, path := range paths {
		for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get"} {
			if status := ask(method, path); status != 405 {
				t.Errorf("%s %s: %d, want 405", method, path, status)
			}
		}
		if strings.HasPrefix(path, "/debug/pprof/") && !strings.HasSuffix(path, "cmdline") && !strings.HasSuffix(path, "symbol") {
			if status := ask("GET", path+"?seconds=9999"); status != 400 {
				t.Errorf("GET %s for hours: %d, want 400", path, status)
			}
		}
	}
	for _, path := range []string{"/", "/metrics", "/healthz", "/debug/pprof/cmdline"} {
		if status := ask("HEAD", path); status != 200 {
			t.Errorf("HEAD %s: got %d", path, status)
		}
	}
}
