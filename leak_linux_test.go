//go:build linux && !portable_relay

package main

import (
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// registrar is the service that registers sub-accounts: it gives those whose
// names begin with "reg" a coin, and takes all registered ones back in the end.
type registrar struct {
	t          *testing.T
	admin      *zkAdmin
	config     *Config
	stop       chan struct{}
	ended      sync.WaitGroup
	registered map[string]bool
}

func startRegistrar(t *testing.T, admin *zkAdmin, c *Config) *registrar {
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
		names, err := r.admin.conn.children(strings.TrimSuffix(r.config.ZKAutoRegWatchDir, "/"))
		if err != nil {
			continue // not made yet
		}
		for _, name := range names {
			if !strings.HasPrefix(name, "reg") || r.registered[name] {
				continue
			}
			if err := r.admin.conn.create(r.config.ZKSwitcherWatchDir+name, []byte("btc"), false); err != nil {
				r.t.Errorf("registering %s: %v", name, err)
			}
			r.admin.conn.remove(r.config.ZKAutoRegWatchDir+name, -1) // may be gone
			r.registered[name] = true
		}
	}
}

// takeBack ends the service and removes what it registered.
func (r *registrar) takeBack() {
	close(r.stop)
	r.ended.Wait()
	for name := range r.registered {
		r.admin.remove(r.config.ZKSwitcherWatchDir + name)
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
