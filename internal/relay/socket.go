package relay

import (
	"errors"
	"time"
)

const (
	// ReadChunk is the most that one read takes from a socket.
	ReadChunk = 64 << 10

	// MaxUnsent bounds the bytes that wait for a peer that does not take them. Owners stop reading
	// the other side as soon as something waits, so only their own answers can reach this bound.
	MaxUnsent = 1 << 20

	// writeTimeout is how long a peer may take none of the bytes that wait for it.
	writeTimeout = 30 * time.Second

	// congestedLimit is how many write timeouts a peer may take something but never everything. It
	// bounds how long a peer that reads a byte now and then is kept.
	congestedLimit = 10

	// stallCheck is how often sockets with waiting bytes are checked.
	stallCheck = 5 * time.Second
)

var (
	// ErrPeerClosed reports an orderly end of the connection by the peer.
	ErrPeerClosed = errors.New("closed by the peer")

	// ErrLineTooLong reports that the owner has left more than Limits.Kept bytes unconsumed. Owners
	// use it for lines that exceed a limit of their own.
	ErrLineTooLong = errors.New("line too long")

	errWriteTimeout = errors.New("the peer takes no data")
	errUnsentLimit  = errors.New("too much data waits for the peer")
)

// Owner hears what happens on its sockets. All calls come from the goroutine of the socket's loop.
type Owner interface {
	// SocketConnected reports the outcome of a dial. After an error the socket is already closed.
	SocketConnected(s *Socket, err error)

	// SocketReceived gets all unconsumed bytes of the socket and returns how many of them it
	// consumed. The rest is kept and given again, with what follows, at the next read or after
	// Resume. b is valid during the call only.
	SocketReceived(s *Socket, b []byte) int

	// SocketDrained reports that all bytes that were waiting have been written.
	SocketDrained(s *Socket)

	// SocketClosed reports that the connection has ended. The socket is already closed. It is not
	// called if the owner closes the socket itself.
	SocketClosed(s *Socket, err error)
}

// WriteBulk is Write for long data whose length has a known bound: Limits.Bulk bytes more than
// usual may wait until all of it is sent.
func (s *Socket) WriteBulk(b []byte) {
	s.bulk = true
	s.Write(b)
	s.bulk = len(s.Unsent()) > 0
}

// takes reports whether n more bytes may wait for the peer.
func (s *Socket) takes(n int) bool {
	if s.bulk {
		n -= s.loop.limits.Bulk
	}
	return len(s.Unsent())+n <= MaxUnsent
}

// Backlog is how many bytes wait for the peer.
func (s *Socket) Backlog() int { return len(s.Unsent()) }
