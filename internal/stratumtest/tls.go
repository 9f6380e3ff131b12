package stratumtest

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
)

// overTLS returns nc itself, or TLS on it after the handshake. After an error nc is
// closed.
func overTLS(nc net.Conn, config *tls.Config) (net.Conn, error) {
	if config == nil {
		return nc, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	c := tls.Client(nc, config)
	if err := c.HandshakeContext(ctx); err != nil {
		nc.Close()
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return c, nil
}
