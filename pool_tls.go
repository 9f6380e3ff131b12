package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/regularfile"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/tunnel"
)

// poolTLS describes how to use TLS with a pool's address. Only its trust changes.
type poolTLS struct {
	settings poolTLSSettings
	pins     []tunnel.Fingerprint
	trust    atomic.Pointer[tunnel.Trust] // of settings.caFile; nil if it was not read yet
}

// poolTLSSettings distinguishes the ways to use TLS with an address. The zero value
// means no TLS.
type poolTLSSettings struct {
	serverName string // sent to the pool (SNI), and expected in its certificate
	caFile     string // if empty, the system's authorities are used
	pins       string // as written
	noVerify   bool
}

// newPoolTLS returns how to use TLS with host, according to the configuration of server.
func newPoolTLS(server *StratumServerInfo, host string) (*poolTLS, error) {
	pins, err := parseFingerprints(server.TLSFingerprint)
	if err != nil {
		return nil, fmt.Errorf("TLSFingerprint: %w", err)
	}
	t := &poolTLS{pins: pins, settings: poolTLSSettings{
		serverName: server.TLSServerName, caFile: server.TLSCAFile, pins: server.TLSFingerprint, noVerify: !server.verifies(),
	}}
	if t.settings.serverName == "" {
		// The zone of an IPv6 address has a meaning on this machine only.
		t.settings.serverName, _, _ = strings.Cut(host, "%")
	}
	return t, nil
}

// is returns the settings. They are the zero value for nil.
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
		reported := false // at most one error for each coin
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
			} else if !reported {
				reported = true
				errs = append(errs, fmt.Errorf("%s.TLSCAFile is %q (%w), must be %s", joinKey("StratumServerMap", coin), path, o.err, wantCAFile))
			}
		}
	}
	return errors.Join(errs...)
}

// client does the TLS handshake on a connection to the pool in this process, not in a
// tunnel process. It is for callers that only ask the pool something.
func (t *poolTLS) client(ctx context.Context, conn net.Conn) (*tls.Conn, error) {
	r, err := t.request(-1, conn.RemoteAddr().String(), 0)
	if err != nil {
		return nil, err
	}
	config, err := tunnel.ClientConfig(r)
	if err != nil {
		return nil, err
	}
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, &askTLSError{err}
	}
	return secure, nil
}

// askTLSError is the reason why the handshake of poolTLS.client failed.
type askTLSError struct{ err error }

func (e *askTLSError) Error() string {
	text := fmt.Sprintf("TLS handshake: %v", tunnel.Explain(e.err))
	if bad, ok := errors.AsType[*tls.CertificateVerificationError](e.err); ok && len(bad.UnverifiedCertificates) > 0 {
		text += "; the certificate's SHA-256 is " + fingerprintOf(bad.UnverifiedCertificates[0])
	}
	return text
}

// Is matches what the error's cause matches. There is no Unwrap, because the cause may be
// an error of a socket, and As would then take it for a failed connection.
func (e *askTLSError) Is(target error) bool { return errors.Is(e.err, target) }

func fingerprintOf(cert *x509.Certificate) string { return fmt.Sprintf("%x", sha256.Sum256(cert.Raw)) }

// securedText describes the TLS version and the certificate of a pool's handshake.
func securedText(state tls.ConnectionState) string {
	text := tls.VersionName(state.Version)
	if len(state.PeerCertificates) > 0 {
		cert := state.PeerCertificates[0]
		text += fmt.Sprintf(", certificate until %s with SHA-256 %s", cert.NotAfter.UTC().Format(time.DateOnly), fingerprintOf(cert))
	}
	return text
}
