package main

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/relay"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/tunnel"
)

// A separate process handles TLS, so that its connections outlive an upgrade
// (internal/tunnel). All that a session knows about it is that a socket is one end
// of a pair. This file holds what all systems share; tunnels_linux.go holds the
// owner of the tunnel, and tunnel_end_linux.go what a session does with its ends.

// tunnelArgument is the only argument of a tunnel process. It is not a flag,
// because nobody starts such a process by hand.
const tunnelArgument = "-tunnel"

// tunnelError is why a connection held by a tunnel process ended, or why it was
// not established.
type tunnelError struct{ ending tunnel.Ending }

func (e *tunnelError) Error() string {
	if e.ending.Ready {
		return fmt.Sprintf("TLS connection ended: %v", e.ending)
	}
	return fmt.Sprintf("TLS handshake failed: %v", e.ending)
}

// errTunnelFault means that the tunnel process is at fault and not the peer.
var errTunnelFault = errors.New("fault of the tunnel process")

// Unwrap translates the end of the connection to an error that the rest of the
// program knows.
func (e *tunnelError) Unwrap() error {
	switch e.ending.Reason {
	case tunnel.Died, tunnel.Internal, tunnel.Limit, tunnel.Busy:
		return errTunnelFault
	}
	return relay.ErrPeerClosed
}

// isTunnelFault reports whether a link ended or failed because of a fault that says
// nothing about the pool.
func isTunnelFault(err error) bool {
	return errors.Is(err, errTunnelFault) || errors.Is(err, tunnel.ErrBusy) || errors.Is(err, tunnel.ErrClosed)
}

// handshakeCounts counts TLS handshakes of one side.
type handshakeCounts struct {
	done   atomic.Int64
	failed []atomic.Int64 // by tunnel.Reason
}

func newHandshakeCounts() handshakeCounts {
	return handshakeCounts{failed: make([]atomic.Int64, len(tunnel.Reasons()))}
}

// fail counts a failed handshake. A child of a later program may have reasons
// that this one does not know.
func (c *handshakeCounts) fail(why tunnel.Reason) {
	c.failed[min(int(why), int(tunnel.Internal))].Add(1)
}

func (c *handshakeCounts) now() handshakeTotals {
	t := handshakeTotals{Done: c.done.Load(), Failed: make(map[string]int64, len(c.failed))}
	for _, why := range tunnel.Reasons() {
		t.Failed[why.String()] = c.failed[why].Load()
	}
	return t
}

// handshakeTotals are the TLS handshakes of one side since this program began.
type handshakeTotals struct {
	Done   int64
	Failed map[string]int64 // by reason, including those with a count of zero
}

// tunnelCounts are the TLS handshakes with miners and with pools.
type tunnelCounts struct{ Miners, Pools handshakeTotals }
