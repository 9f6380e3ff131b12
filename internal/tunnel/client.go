package tunnel

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
)

// ClientConfig is how a tunnel process speaks TLS with a pool, for those who only
// want to ask the pool something and need no tunnel for it.
func ClientConfig(r ClientRequest) (*tls.Config, error) {
	var authorities *x509.CertPool
	if r.Trust != nil {
		var err error
		if authorities, err = parseTrust(r.Trust.pem); err != nil {
			return nil, err
		}
	}
	return clientConfig(r.ServerName, authorities, r.Pins, r.NoVerify)
}

// Explain says of the error of a handshake with such a configuration what a tunnel
// process would.
func Explain(err error) Ending { return Ending{Reason: reasonOf(err), Text: plainText(err.Error())} }

func clientConfig(serverName string, authorities *x509.CertPool, pins []Fingerprint, noVerify bool) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: serverName, RootCAs: authorities}
	switch {
	case len(pins) > 0:
		// The pin says more than names, dates and authorities.
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
