// Package testport gives loopback ports to tests and simulated programs.
//
// The kernel chooses ports from the range that it also uses for outgoing connections. If
// a listener on such a port is closed and opened again later, or opened by another
// program, a connection may take the port in the meantime. The ports of this package are
// below that range.
package testport

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	first  = 12000
	count  = 18000
	stride = 7919 // has no common divisor with count, so each port is used before any is repeated
)

// turn is the position of the process in the range. Programs that run at the same
// time begin at different places.
var turn atomic.Uint64

func init() { turn.Store(rand.Uint64N(count)) }

// next returns an address that this process was not given before, until there are
// none left.
func next() string { return fmt.Sprintf("127.0.0.1:%d", first+turn.Add(stride)%count) }

// Listen listens on such a port.
func Listen() (net.Listener, error) {
	var err error
	for range 200 {
		var ln net.Listener
		if ln, err = net.Listen("tcp", next()); err == nil {
			return ln, nil
		}
	}
	return nil, fmt.Errorf("no free port on 127.0.0.1: %w", err)
}

// Addr returns the host:port of such a port where nobody listens. It finds that out
// without listening: see ListenAgain.
func Addr() (string, error) {
	for range 200 {
		addr := next()
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if errors.Is(err, syscall.ECONNREFUSED) {
			return addr, nil
		}
		if err == nil {
			conn.Close()
		}
	}
	return "", errors.New("no free port on 127.0.0.1")
}

// ListenAgain listens where a listener was closed. A process that is being started
// at that moment holds the closed listener until it runs its program.
func ListenAgain(addr string) (net.Listener, error) {
	for end := time.Now().Add(2 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		ln, err := net.Listen("tcp", addr)
		if err == nil || !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(end) {
			return ln, err
		}
	}
}
