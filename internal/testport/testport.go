// Package testport gives tests and simulated programs ports of loopback.
//
// A port that the kernel chooses is one of those it gives to outgoing
// connections as well. Whoever closes a listener there to listen again later,
// or to let another program listen, may find it taken by any connection. The
// ports given here are below that range.
package testport

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
)

const (
	first  = 12000
	count  = 18000
	stride = 7919 // prime to count: each port once, before any again
)

// turn is where the process is in the range. Programs that run at the same time
// begin anywhere.
var turn atomic.Uint64

func init() { turn.Store(rand.Uint64N(count)) }

// Listen listens on a port that this process was not given before, until
// there are none left.
func Listen() (net.Listener, error) {
	var err error
	for range 200 {
		var ln net.Listener
		port := first + turn.Add(stride)%count
		if ln, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return ln, nil
		}
	}
	return nil, fmt.Errorf("no free port on 127.0.0.1: %w", err)
}

// Addr gives the host:port of such a port, where nobody listens.
func Addr() (string, error) {
	ln, err := Listen()
	if err != nil {
		return "", err
	}
	return ln.Addr().String(), ln.Close()
}
