package stratumtest

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
)

// overTLS completes a TLS handshake on nc and returns the TLS connection. It returns nc
// itself if config is nil, and closes nc if the handshake fails.
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
