package main

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/relay"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/tunnel"
)

// A separate process handles TLS, so that connections with TLS outlive an upgrade
// (internal/tunnel). To a session, such a connection is one end of a socket pair. This
// file has what all systems share. The owner of the tunnel is in tunnels_linux.go, and
// what a session does with its ends is in tunnel_end_linux.go.

// tunnelArgument is the only argument of a tunnel process. -help does not list it,
// because nobody starts such a process by hand.
const tunnelArgument = "-tunnel"

// tunnelError is the reason why a connection that a tunnel process holds has ended or
// could not be established.
type tunnelError struct{ ending tunnel.Ending }

func (e *tunnelError) Error() string {
	if e.ending.Ready {
		return fmt.Sprintf("TLS connection ended: %v", e.ending)
	}
	return fmt.Sprintf("TLS handshake failed: %v", e.ending)
}

// errTunnelFault means that the tunnel process is at fault and not the peer.
var errTunnelFault = errors.New("fault of the tunnel process")

// Unwrap returns the error that the rest of the program knows for the reason.
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

// fail counts a failed handshake. A tunnel process of a later build may have reasons
// that this program does not know. They are counted as tunnel.Internal.
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

// handshakeTotals are the TLS handshakes of one side since this program started.
type handshakeTotals struct {
	Done   int64
	Failed map[string]int64 // by reason, including those with a count of zero
}

// tunnelCounts are the TLS handshakes with miners and with pools.
type tunnelCounts struct{ Miners, Pools handshakeTotals }
