//go:build linux && e2e && !portable_relay

package main

import (
	"encoding/json"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/zktest"
)

// registrar is the service that registers sub-accounts: it gives those whose
// names begin with "reg" a coin, and takes all registered ones back in the end.
type registrar struct {
	t          *testing.T
	admin      *zktest.Admin
	config     *Config
	stop       chan struct{}
	ended      sync.WaitGroup
	registered map[string]bool
}

func startRegistrar(t *testing.T, admin *zktest.Admin, c *Config) *registrar {
	r := &registrar{t: t, admin: admin, config: c, stop: make(chan struct{}), registered: make(map[string]bool)}
	r.ended.Go(r.run)
	return r
}

func (r *registrar) run() {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-r.stop:
			return
		case <-tick.C:
		}
		for _, name := range r.admin.Children(r.config.ZKAutoRegWatchDir) {
			if !strings.HasPrefix(name, "reg") || r.registered[name] {
				continue
			}
			r.admin.Put(r.config.ZKSwitcherWatchDir+name, "btc")
			_ = r.admin.TryRemove(r.config.ZKAutoRegWatchDir + name) // may be gone
			r.registered[name] = true
		}
	}
}

// takeBack ends the service and removes what it registered.
func (r *registrar) takeBack() {
	close(r.stop)
	r.ended.Wait()
	for name := range r.registered {
		r.admin.Remove(r.config.ZKSwitcherWatchDir + name)
	}
}

func shortPool(t *testing.T) *stratumtest.Pool {
	return startPool(t, stratumtest.PoolOptions{Name: "btc", SkipWork: true, AcceptWorker: func(name string) bool {
		return !strings.HasSuffix(name, ".refused")
	}})
}

// shortConfig changes what short sessions want otherwise.
func shortConfig(c *daemontest.Config) *daemontest.Config {
	c.TrustedProxies = []string{"127.0.0.0/8"}
	c.EnableUserAutoReg = true
	c.AutoRegMaxWaitUsers = 500
	c.ZKUserCaseInsensitiveIndex = path.Dir(path.Clean(c.ZKSwitcherWatchDir)) + "/case/"
	return c
}

// ownConfig is a configuration for tests of the built daemon, as the daemon reads it.
func ownConfig(t testing.TB, c *daemontest.Config) *Config {
	t.Helper()
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	own, err := parseConfig(text)
	if err != nil {
		t.Fatal(err)
	}
	return own
}
