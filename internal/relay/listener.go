package relay

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
)

// Listen opens a listener at addr. network is "tcp", "tcp4" or "tcp6", as for
// net.Listen. Accepted sockets inherit its options.
func Listen(network, addr string) (*Listener, error) {
	config := net.ListenConfig{
		KeepAliveConfig: net.KeepAliveConfig{Enable: false}, // setListenerOptions sets it instead
		Control: func(_, _ string, c syscall.RawConn) error {
			return c.Control(setListenerOptions)
		},
	}
	ln, err := config.Listen(context.Background(), network, addr)
	if err != nil {
		return nil, err
	}
	return newListener(ln.(*net.TCPListener))
}

// IsPaused reports whether Accept failed because the listener is paused: Pause sets a deadline in
// the past. A timeout that the kernel reports concerns one connection, and IsPaused returns false
// for it.
func IsPaused(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
