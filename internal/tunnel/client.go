package tunnel

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
)

// ClientConfig returns the TLS configuration that a tunnel process uses for a pool. It
// is for callers that only query the pool and need no tunnel.
func ClientConfig(r ClientRequest) (*tls.Config, error) {
	var authorities *x509.CertPool
	switch {
	case r.Trust != nil:
		var err error
		if authorities, err = parseTrust(r.Trust.pem); err != nil {
			return nil, err
		}
	case len(r.Pins) == 0 && !r.NoVerify:
		authorities = systemRoots() // as they are now
	}
	return clientConfig(r.ServerName, authorities, r.Pins, r.NoVerify)
}

// Explain describes a handshake error with such a configuration in the same words as a
// tunnel process.
func Explain(err error) Ending { return Ending{Reason: reasonOf(err), Text: plainText(err.Error())} }

func clientConfig(serverName string, authorities *x509.CertPool, pins []Fingerprint, noVerify bool) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: serverName, RootCAs: authorities}
	switch {
	case len(pins) > 0:
		// A pinned certificate makes names, dates and authorities irrelevant.
		config.InsecureSkipVerify = true
		pins := slices.Clone(pins)
		config.VerifyConnection = func(state tls.ConnectionState) error { return checkPins(pins, state.PeerCertificates) }
	case noVerify:
		config.InsecureSkipVerify = true
	case serverName == "":
		return nil, errors.New("no server name")
	}
	return config, nil
}

func checkPins(pins []Fingerprint, chain []*x509.Certificate) error {
	if len(chain) == 0 {
		return errFingerprint
	}
	sum := sha256.Sum256(chain[0].Raw)
	if !slices.Contains(pins, sum) {
		return fmt.Errorf("%w: its SHA-256 is %x", errFingerprint, sum)
	}
	return nil
}
