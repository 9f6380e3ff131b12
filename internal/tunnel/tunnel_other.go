//go:build !linux

package tunnel

import "crypto/x509"

// Only Linux passes descriptors between processes in this package. Elsewhere the
// configuration refuses TLS.

const nonblock = 0

func systemRoots() *x509.CertPool { return nil }

// ControlFD is the number under which the child finds its control socket.
const ControlFD = 3

// Serve is the child.
func Serve(controlFD int, program string) error { return ErrUnsupported }

// Tunnel is the daemon's side.
type Tunnel struct{}

// Conn is a connection that the tunnel holds for an owner.
type Conn struct{}

func New(o Options) (*Tunnel, error) { return nil, ErrUnsupported }

func (t *Tunnel) Server(r ServerRequest, owner Owner) (int, *Conn, error) {
	return -1, nil, ErrUnsupported
}

func (t *Tunnel) Client(r ClientRequest, owner Owner) (int, *Conn, error) {
	return -1, nil, ErrUnsupported
}

func (t *Tunnel) Prepare() (*Pair, bool, error) { return nil, false, ErrUnsupported }

func (t *Tunnel) Processes() []Process { return nil }

func (t *Tunnel) Close() {}

func (c *Conn) Reset() {}
