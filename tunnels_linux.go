//go:build linux && !portable_relay

package main

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/journal"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/tunnel"
)

// tunnels owns the tunnel and counts its handshakes. The manager has one. The first
// tunnel process starts with the first connection that uses TLS. Its methods may be
// called from any goroutine.
type tunnels struct {
	manager *sessionManager
	miners  handshakeCounts
	pools   handshakeCounts

	failures journal.LogDigests // handshakes of miners that failed, by reason

	mu           sync.Mutex
	tunnel       *tunnel.Tunnel
	reportedCert *tunnel.Certificate // the tunnel process's latest report, or what prepare has read; nil before either
}

func newTunnels(m *sessionManager) (*tunnels, error) {
	t := &tunnels{manager: m, miners: newHandshakeCounts(), pools: newHandshakeCounts()}
	var err error
	t.tunnel, err = tunnel.New(t.options())
	return t, err
}

func (t *tunnels) options() tunnel.Options {
	c := t.manager.config
	return tunnel.Options{
		Program: tunnelProgram(), Args: []string{tunnelArgument},
		CertFile: c.TLSCertFile, KeyFile: c.TLSKeyFile,
		Logf: func(format string, args ...any) {
			t.manager.limitedLog.Errorf("tunnel", "%s", fmt.Sprintf(format, args...))
		},
		Certificate: t.certificateReported,
	}
}

// tunnelProgram identifies the file of this program. Builds of the same version have
// different identities. An upgrade replaces a tunnel process that was started from
// another file.
var tunnelProgram = sync.OnceValue(func() string {
	info, err := os.Stat("/proc/self/exe")
	if err != nil {
		return version
	}
	file := fnv.New32a()
	fmt.Fprint(file, info.Size(), info.ModTime().UnixNano())
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		fmt.Fprint(file, st.Dev, st.Ino)
	}
	return fmt.Sprintf("%s %08x", version, file.Sum32())
})

// use returns the tunnel, which an upgrade or its failure may replace.
func (t *tunnels) use() *tunnel.Tunnel {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.tunnel
}

// certificateReported records and logs what the tunnel process reports about the files
// TLSCertFile and TLSKeyFile.
func (t *tunnels) certificateReported(c tunnel.Certificate) {
	t.mu.Lock()
	before := t.reportedCert
	t.reportedCert = &c
	t.mu.Unlock()
	log := &t.manager.limitedLog
	switch {
	case c.Err == nil:
		logCertificateInUse(c.Pair)
		if text := certificateText(c.Pair); before == nil || before.Err != nil || before.Pair == nil || text != certificateText(before.Pair) {
			t.manager.monitor.recordReload("certificate taken", text)
		}
		for _, warning := range certificateWarnings(t.manager.config, c.Pair) {
			log.Warningf("TLS certificate", "%s", warning)
		}
	case c.Pair != nil:
		log.Errorf("TLS certificate", "TLS certificate not renewed: %v; the one before stays in use until %s", c.Err, c.Pair.NotAfter.UTC().Format(time.DateTime))
		t.manager.monitor.recordReload("certificate refused", c.Err.Error())
	default:
		t.manager.monitor.recordReload("certificate refused", c.Err.Error())
		log.Errorf("TLS certificate", "no TLS certificate: %v; miners can connect only without TLS", c.Err)
	}
}

// prepare checks the files of TLSCertFile and TLSKeyFile and keeps them for the first
// tunnel process. It must not be called on a loop.
func (t *tunnels) prepare() (*tunnel.Pair, error) {
	pair, fresh, err := t.use().Prepare()
	if err != nil {
		return nil, err
	}
	if fresh {
		logCertificateInUse(pair)
		// At a start EventFile is not open yet, so the first reading is no event.
		t.manager.monitor.recordReload("certificate taken", certificateText(pair))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.reportedCert == nil {
		t.reportedCert = &tunnel.Certificate{Pair: pair}
	}
	return pair, nil
}

// certificate returns what is known about the certificate for miners. known is false
// before its files were read for the first time.
func (t *tunnels) certificate() (c tunnel.Certificate, known bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.reportedCert == nil {
		return c, false
	}
	return *t.reportedCert, true
}

// processes describes the running tunnel processes, in the order of their IDs.
func (t *tunnels) processes() []tunnel.Process {
	all := t.use().Processes()
	slices.SortFunc(all, func(a, b tunnel.Process) int { return cmp.Compare(a.PID, b.PID) })
	return all
}

func (t *tunnels) counts() tunnelCounts { return tunnelCounts{t.miners.now(), t.pools.now()} }

// connections counts the connections that the tunnel processes hold.
func (t *tunnels) connections() int {
	n := 0
	for _, p := range t.use().Processes() {
		n += p.Connections
	}
	return n
}

// tunnelDrainTime is how long the end of the process waits for peers to receive what
// was written to them.
const tunnelDrainTime = 300 * time.Millisecond

// close ends all tunnel processes after their connections have ended, or after
// tunnelDrainTime.
func (t *tunnels) close() {
	t.failures.Flush()
	for limit := time.Now().Add(tunnelDrainTime); t.connections() > 0 && time.Now().Before(limit); {
		time.Sleep(2 * time.Millisecond)
	}
	t.use().Close()
}
