package relay

import (
	"errors"
	"time"
)

const (
	// ReadChunk is the largest number of bytes that one read takes from a socket.
	ReadChunk = 64 << 10

	// MaxUnsent bounds the bytes that wait for a peer that does not accept them. Owners stop reading
	// the other side as soon as bytes wait, so only their own answers can reach this bound.
	MaxUnsent = 1 << 20

	// writeTimeout is how long a peer may accept none of the bytes that wait for it.
	writeTimeout = 30 * time.Second

	// congestedLimit is how long a peer may accept some bytes but never all of them, in write
	// timeouts. It ends the connection to a peer that reads only a byte from time to time.
	congestedLimit = 10

	// stallCheck is how often sockets with waiting bytes are checked.
	stallCheck = 5 * time.Second
)

var (
	// ErrPeerClosed means that the peer has closed the connection without an error.
	ErrPeerClosed = errors.New("closed by the peer")

	// ErrLineTooLong means that the owner has left more than Limits.Kept bytes unconsumed. Owners
	// also use it for lines that exceed their own limits.
	ErrLineTooLong = errors.New("line too long")

	errWriteTimeout = errors.New("the peer takes no data")
	errUnsentLimit  = errors.New("too much data waits for the peer")
)

// Owner is called when something happens on its sockets. All calls come from the goroutine of the
// socket's loop.
type Owner interface {
	// SocketConnected reports the outcome of a dial. After an error the socket is already closed.
	SocketConnected(s *Socket, err error)

	// SocketReceived gets all unconsumed bytes of the socket and returns how many of them it
	// consumed. The rest is kept and passed again, with the bytes that follow, at the next read or
	// after Resume. b is valid only during the call.
	SocketReceived(s *Socket, b []byte) int

	// SocketDrained reports that all waiting bytes have been sent.
	SocketDrained(s *Socket)

	// SocketClosed reports that the connection has ended. The socket is already closed. It is not
	// called if the owner closes the socket itself.
	SocketClosed(s *Socket, err error)
}

// WriteBulk is Write for a long message of bounded length. Until it is sent, Limits.Bulk bytes more
// than usual may wait.
func (s *Socket) WriteBulk(b []byte) {
	s.bulk = true
	s.Write(b)
	s.bulk = len(s.Unsent()) > 0
}

// hasRoom reports whether n more bytes may wait for the peer.
func (s *Socket) hasRoom(n int) bool {
	if s.bulk {
		n -= s.loop.limits.Bulk
	}
	return len(s.Unsent())+n <= MaxUnsent
}

// Backlog returns how many bytes wait for the peer.
func (s *Socket) Backlog() int { return len(s.Unsent()) }
