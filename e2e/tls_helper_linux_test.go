//go:build linux && e2e

package e2e

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// tlsWorld is an authority that miners and the switcher trust.
type tlsWorld struct {
	*testkit.Authority
	t *testing.T
}

func newTLSWorld(t *testing.T) *tlsWorld {
	t.Helper()
	return &tlsWorld{testkit.NewAuthority(t), t}
}

const poolHost = "127.0.0.1"

// pool starts a pool with TLS.
func (w *tlsWorld) pool(opts stratumtest.PoolOptions) *stratumtest.Pool {
	w.t.Helper()
	opts.TLS = w.Server(poolHost)
	return testkit.StartPool(w.t, opts)
}

// config is a configuration for miners with TLS and without, and for pools, of
// which those in secured speak TLS.
func (w *tlsWorld) config(plain []*stratumtest.Pool, secured ...*stratumtest.Pool) *daemontest.Config {
	w.t.Helper()
	c := daemontest.FileConfig(append(plain, secured...)...)
	for _, p := range secured {
		c.StratumServerMap[p.Name()] = w.poolConfig(p)
	}
	c.TLSCertFile, c.TLSKeyFile = w.Issue(w.t.TempDir(), time.Now().Add(90*24*time.Hour), "switcher.test")
	return c
}

func (w *tlsWorld) poolConfig(p *stratumtest.Pool) daemontest.PoolConfig {
	return daemontest.PoolConfig{URL: "stratum+ssl://" + p.Addr(), UserSuffix: p.Name(), TLSCAFile: w.File}
}

// miner returns how a miner speaks TLS with the switcher.
func (w *tlsWorld) miner() *tls.Config { return w.Client("switcher.test") }

// tunnelProcesses returns the pids of the daemon's tunnel processes.
func tunnelProcesses(t *testing.T, daemon int) (pids []int) {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	testkit.Must(t, err)
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if parent, name, ok := parentOf(pid); ok && parent == daemon && name == "switcherTunnel" {
			pids = append(pids, pid)
		}
	}
	return pids
}

// parentOf reads the parent and the name of a living process. A zombie counts as
// living.
func parentOf(pid int) (parent int, name string, ok bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, "", false
	}
	begin, end := strings.IndexByte(string(text), '('), strings.LastIndexByte(string(text), ')')
	fields := strings.Fields(string(text[end+1:]))
	if begin < 0 || len(fields) < 2 {
		return 0, "", false
	}
	parent, err = strconv.Atoi(fields[1])
	return parent, string(text[begin+1 : end]), err == nil
}

func tunnelOf(t *testing.T, d *daemontest.Daemon) int {
	t.Helper()
	var pids []int
	testkit.Eventually(t, "one tunnel process", func() bool {
		pids = tunnelProcesses(t, d.Cmd.Process.Pid)
		return len(pids) == 1
	})
	return pids[0]
}

// waitTunnelGenerations waits until n tunnel processes live, of which the newest takes
// the new connections and has none yet.
func waitTunnelGenerations(t *testing.T, statusAddr string, n int) {
	t.Helper()
	testkit.Eventually(t, fmt.Sprintf("tunnel process %d takes new connections", n), func() bool {
		var status struct {
			TLS struct {
				Processes []struct {
					Current     bool
					Connections int
				}
			}
		}
		getJSON(t, "http://"+statusAddr+"/api/status", &status)
		processes := status.TLS.Processes
		for _, p := range processes {
			if p.Current && p.Connections == 0 {
				return len(processes) == n
			}
		}
		return false
	})
}

// buildWithoutTunnels builds a daemon that, like builds before TLS, says nothing
// about tunnel processes in the preflight.
func buildWithoutTunnels(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	source, err := filepath.Abs("preflight.go")
	testkit.Must(t, err)
	text, err := os.ReadFile(source)
	testkit.Must(t, err)
	const says = ", Tunnels: tlsSupported"
	if !strings.Contains(string(text), says) {
		t.Fatalf("%s does not contain %q", source, says)
	}
	changed := filepath.Join(dir, "preflight.go")
	testkit.WriteFile(t, changed, strings.Replace(string(text), says, "", 1))
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {source: changed}})
	testkit.Must(t, err)
	testkit.WriteFile(t, filepath.Join(dir, "overlay.json"), string(overlay))
	binary := filepath.Join(dir, "stratumSwitcher")
	out, err := exec.Command("go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-ldflags", "-X main.version=older", "-o", binary, daemontest.Package).CombinedOutput()
	if err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return binary
}
