//go:build linux && e2e

package e2e

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// A storm of miners with TLS at a daemon of an ordinary user that has 256 descriptors:
// as many are served as there is room for, the others are refused. The tunnel process
// survives, and there is room again when the miners have left. For an ordinary user the
// kernel also limits the descriptors that are on their way to the tunnel process.
func TestTLSFewDescriptors(t *testing.T) {
	t.Parallel()
	const limit, storm = 256, 150
	w := newTLSWorld(t)
	btc := testkit.StartPool(t, stratumtest.PoolOptions{Name: "btc", ShareBits: 4, SkipWork: true})
	c := w.config([]*stratumtest.Pool{btc})
	c.MaxPoolDials = 16 // for which descriptors are kept
	secrets := publicDir(t)
	c.TLSCertFile, c.TLSKeyFile = w.Issue(secrets, time.Now().Add(90*24*time.Hour), "switcher.test")
	command(t, "", "chown", "-R", fmt.Sprint(ordinaryUser), secrets)
	d := daemontest.New(t, publicDir(t))
	d.Binary = filepath.Join(publicDir(t), "stratumSwitcher")
	d.Install(daemontest.Build(t, "one"))
	d.WriteConfig(c)
	d.SetCoins(map[string]string{"*": "btc"})
	testkit.Must(t, os.Chown(d.Dir, ordinaryUser, ordinaryUser))
	cmd := exec.Command("prlimit", fmt.Sprintf("--nofile=%d:%d", limit, limit), d.Binary, "-logtostderr", "-v=1")
	cmd.Dir = d.Dir
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Credential: &syscall.Credential{Uid: ordinaryUser, Gid: ordinaryUser}}
	d.Run(cmd)
	d.Addr = d.WaitLog(`listening addr=(\S+)`)[1]
	startSecured(t, w, d, 1)[0].Close()
	first := tunnelOf(t, d)

	var all sync.WaitGroup
	var mu sync.Mutex
	var served []*stratumtest.Miner
	for i := range storm {
		all.Go(func() {
			m, err := stratumtest.NewMiner(stratumtest.MinerOptions{Addr: d.Addr, TLS: w.miner(), Worker: fmt.Sprintf("carol.%d", i), CheatHash: true, Rate: 20})
			if err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			served = append(served, m)
		})
	}
	all.Wait()
	t.Logf("%d of %d miners were served", len(served), storm)
	if len(served) < 20 || len(served) == storm {
		t.Errorf("%d of %d miners were served", len(served), storm)
	}
	for _, m := range served {
		testkit.WantAccepted(t, m, 1)
		m.Close()
	}
	startSecured(t, w, d, 1)[0].Close()
	if pid := tunnelOf(t, d); pid != first {
		t.Errorf("tunnel process %d, was %d", pid, first)
	}
}

// The listening port changes at an upgrade while miners with TLS are connected.
func TestTLSUpgradeMovesPort(t *testing.T) {
	t.Parallel()
	w := newTLSWorld(t)
	btc := testkit.StartPool(t, stratumtest.PoolOptions{Name: "btc", ShareBits: 4, SkipWork: true})
	c := w.config([]*stratumtest.Pool{btc})
	d := daemontest.Start(t, c, map[string]string{"*": "btc"})
	miners := startSecured(t, w, d, 3)
	first := tunnelOf(t, d)
	d.WriteConfig(c.At(testkit.UnusedAddr(t)))
	n := d.Logged()
	d.GoodUpgrade()
	d.Addr = d.WaitLogFrom(n, `listening addr=(\S+)`)[1]
	miners = append(miners, startSecured(t, w, d, 1)...)
	for _, m := range miners {
		testkit.WantAccepted(t, m, 1)
	}
	if pid := tunnelOf(t, d); pid != first {
		t.Errorf("tunnel process %d, was %d", pid, first)
	}
}

// A miner that asks for new keys again and again, or for another handshake, is
// disconnected. Others are served meanwhile.
func TestTLSKeyFloods(t *testing.T) {
	t.Parallel()
	w := newTLSWorld(t)
	btc := testkit.StartPool(t, stratumtest.PoolOptions{Name: "btc", ShareBits: 4, SkipWork: true})
	d := daemontest.Start(t, w.config([]*stratumtest.Pool{btc}), map[string]string{"*": "btc"})
	good := startSecured(t, w, d, 1)[0]
	for name, flood := range map[string]struct{ version, key string }{
		"update asked for": {"-tls1_3", "K"}, "update": {"-tls1_3", "k"}, "renegotiation": {"-tls1_2", "R"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command("openssl", "s_client", "-connect", d.Addr, flood.version)
			in, err := cmd.StdinPipe()
			testkit.Must(t, err)
			out, err := cmd.StdoutPipe()
			testkit.Must(t, err)
			testkit.Must(t, cmd.Start())
			var gone atomic.Bool
			var text []byte
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				text, _ = io.ReadAll(out)
				gone.Store(true)
			}()
			sent := 0
			for ; !gone.Load() && sent < 5000; sent++ {
				if _, err := io.WriteString(in, flood.key+"\n"); err != nil {
					break
				}
				time.Sleep(time.Millisecond) // openssl takes one command from what it reads at once
			}
			if sent == 5000 {
				t.Error("the connection stays open")
				_ = cmd.Process.Kill()
			}
			<-ended
			_ = cmd.Wait()
			if !strings.Contains(string(text), "SSL handshake has read") {
				t.Errorf("no handshake: %s", text)
			}
			t.Logf("gone after %d requests", sent)
			testkit.WantAccepted(t, good, 1)
		})
	}
}
