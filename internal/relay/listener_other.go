//go:build !linux || portable_relay

package relay

import (
	"net"
	"net/netip"
)

func setListenerOptions(uintptr) {}

// Listener is a listening socket.
type Listener struct {
	ln *net.TCPListener
}

func newListener(ln *net.TCPListener) (*Listener, error) {
	return &Listener{ln: ln}, nil
}

// Addr returns the address at which ln listens.
func (ln *Listener) Addr() net.Addr { return ln.ln.Addr() }

// Accept waits for the next connection.
func (ln *Listener) Accept() (Handle, netip.AddrPort, error) {
	conn, err := ln.ln.AcceptTCP()
	if err != nil {
		return Handle{}, netip.AddrPort{}, err
	}
	return Handle{conn}, conn.RemoteAddr().(*net.TCPAddr).AddrPort(), nil
}

func (ln *Listener) Close() { ln.ln.Close() }
