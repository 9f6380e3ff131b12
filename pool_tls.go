package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/regularfile"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/tunnel"
)

// poolTLS says how TLS is spoken with a pool's address. Only its trust changes.
type poolTLS struct {
	settings poolTLSSettings
	pins     []tunnel.Fingerprint
	trust    atomic.Pointer[tunnel.Trust] // of settings.caFile; nil: not read yet
}

// poolTLSSettings are what tells one way to speak TLS with an address from
// another. The zero value means no TLS.
type poolTLSSettings struct {
	serverName string // to be asked for, and to be found in the certificate
	caFile     string // empty: the system's authorities
	pins       string // as written
	noVerify   bool
}

// newPoolTLS returns how server wants TLS to be spoken with host.
func newPoolTLS(server *StratumServerInfo, host string) (*poolTLS, error) {
	pins, err := parseFingerprints(server.TLSFingerprint)
	if err != nil {
		return nil, fmt.Errorf("TLSFingerprint: %w", err)
	}
	t := &poolTLS{pins: pins, settings: poolTLSSettings{
		serverName: server.TLSServerName, caFile: server.TLSCAFile, pins: server.TLSFingerprint, noVerify: !server.verifies(),
	}}
	if t.settings.serverName == "" {
		// A zone means something here only.
		t.settings.serverName, _, _ = strings.Cut(host, "%")
	}
	return t, nil
}

// is returns the settings; those of nil are none.
func (t *poolTLS) is() poolTLSSettings {
	if t == nil {
		return poolTLSSettings{}
	}
	return t.settings
}

var errNoTrust = errors.New("the file of TLSCAFile could not be read")

// request asks the tunnel to be the client of a connection to the pool.
func (t *poolTLS) request(fd int, address string, timeout time.Duration) (tunnel.ClientRequest, error) {
	trust := t.trust.Load()
	if t.settings.caFile != "" && trust == nil {
		return tunnel.ClientRequest{}, fmt.Errorf("%w: %s", errNoTrust, t.settings.caFile)
	}
	return tunnel.ClientRequest{
		FD: fd, Address: address, ServerName: t.settings.serverName,
		Trust: trust, Pins: t.pins, NoVerify: t.settings.noVerify, Timeout: timeout,
	}, nil
}

// loadTrusts reads the file of each TLSCAFile. A pool whose file cannot be read
// keeps what was read before. The error names the pool's key.
func loadTrusts(pools map[string]*pool) error {
	type outcome struct {
		trust *tunnel.Trust
		err   error
	}
	read := make(map[string]outcome)
	var errs []error
	for _, coin := range slices.Sorted(maps.Keys(pools)) {
		told := false
		for _, a := range pools[coin].addresses {
			path := a.tls.is().caFile
			if path == "" {
				continue
			}
			o, known := read[path]
			if !known {
				o.trust, o.err = regularfile.InTime(regularfile.Wait, func() (*tunnel.Trust, error) { return tunnel.LoadTrust(path) })
				read[path] = o
			}
			if o.err == nil {
				a.tls.trust.Store(o.trust)
			} else if !told {
				told = true
				errs = append(errs, fmt.Errorf("%s.TLSCAFile is %q (%w), must be %s", joinKey("StratumServerMap", coin), path, o.err, wantCAFile))
			}
		}
	}
	return errors.Join(errs...)
}
