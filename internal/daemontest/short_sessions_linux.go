package daemontest

import (
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/zktest"
)

// Registrar acts as the service that registers sub-accounts. It sets a coin for those whose
// names begin with "reg". TakeBack removes these coins again.
type Registrar struct {
	// Registered contains the sub-accounts that it has registered.
	Registered map[string]bool

	admin  *zktest.Admin
	config *Config
	stop   chan struct{}
	ended  sync.WaitGroup
}

func StartRegistrar(admin *zktest.Admin, c *Config) *Registrar {
	r := &Registrar{Registered: make(map[string]bool), admin: admin, config: c, stop: make(chan struct{})}
	r.ended.Go(r.run)
	return r
}

func (r *Registrar) run() {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-r.stop:
			return
		case <-tick.C:
		}
		for _, name := range r.admin.Children(r.config.ZKAutoRegWatchDir) {
			if !strings.HasPrefix(name, "reg") || r.Registered[name] {
				continue
			}
			r.admin.Put(r.config.ZKSwitcherWatchDir+name, "btc")
			_ = r.admin.TryRemove(r.config.ZKAutoRegWatchDir + name) // it may be gone already
			r.Registered[name] = true
		}
	}
}

// TakeBack ends the service and removes the coins that it set.
func (r *Registrar) TakeBack() {
	close(r.stop)
	r.ended.Wait()
	for name := range r.Registered {
		r.admin.Remove(r.config.ZKSwitcherWatchDir + name)
	}
}

// ShortPool starts a pool for short sessions. It refuses workers whose names end with
// ".refused".
func ShortPool(t *testing.T) *stratumtest.Pool {
	return testkit.StartPool(t, stratumtest.PoolOptions{Name: "btc", SkipWork: true, AcceptWorker: func(name string) bool {
		return !strings.HasSuffix(name, ".refused")
	}})
}

// ShortConfig changes c as short sessions require, and returns it.
func ShortConfig(c *Config) *Config {
	c.TrustedProxies = []string{"127.0.0.0/8"}
	c.EnableUserAutoReg = true
	c.AutoRegMaxWaitUsers = 500
	c.ZKUserCaseInsensitiveIndex = path.Dir(path.Clean(c.ZKSwitcherWatchDir)) + "/case/"
	return c
}
