//go:build linux && e2e

package e2e

import (
	"os"
	"syscall"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// Miners with TLS are served whenever the files of the certificate are spoilt: before
// the first of them connects, and at an upgrade after the new program has accepted the
// files, to another program and to the same. The last good pair lasts even when the
// tunnel process dies.
func TestTLSCertificateSpoilt(t *testing.T) {
	t.Parallel()
	w := newTLSWorld(t)
	btc := testkit.StartPool(t, stratumtest.PoolOptions{Name: "btc", ShareBits: 4, SkipWork: true})
	c := w.config([]*stratumtest.Pool{btc})
	cert, err := os.ReadFile(c.TLSCertFile)
	testkit.Must(t, err)
	key, err := os.ReadFile(c.TLSKeyFile)
	testkit.Must(t, err)
	spoil := func() {
		testkit.WriteFile(t, c.TLSCertFile, "garbage") // in place
		testkit.Must(t, os.Remove(c.TLSKeyFile))
	}
	d := daemontest.Start(t, c, map[string]string{"*": "btc"})
	spoil()
	for _, upgrade := range []string{"", "to another program", "to the same"} {
		n := d.Logged()
		if upgrade != "" {
			testkit.WriteFile(t, c.TLSCertFile, string(cert))
			testkit.WriteFile(t, c.TLSKeyFile, string(key))
			d.UpgradeWhile(spoil)
		}
		for range 2 {
			startSecured(t, w, d, 1)
			for _, pid := range tunnelProcesses(t, d.Cmd.Process.Pid) {
				testkit.Must(t, syscall.Kill(pid, syscall.SIGKILL))
			}
		}
		d.WaitLogFrom(n, `TLS certificate not renewed: .*; the one before stays in use`)
	}
}
