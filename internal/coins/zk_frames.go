package coins

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// This file checks the bytes from a broker before the client library gets them. The
// library allocates as much memory as a length announces before it has received that
// much, and it panics on some answers that are too short.

// These operations of ZooKeeper's protocol have answers that contain lengths. The
// numbers are those of ZooDefs.OpCode in ZooKeeper's source.
const (
	zkOpCreate       = 1
	zkOpDelete       = 2
	zkOpGetData      = 4
	zkOpSetData      = 5
	zkOpGetChildren2 = 12
	zkOpCheck        = 13
	zkOpMulti        = 14
	// zkOpSetWatches is the request by which the library sets its watches again after
	// a reconnect.
	zkOpSetWatches = 101
	zkOpError      = -1
)

const (
	zkReplyHeader = 16 // the request's number, the transaction and the error
	zkStatSize    = 68
	// The answer to the connect request has a version, a timeout, a session and a
	// password of 16 bytes. Since ZooKeeper 3.4 it has one more byte.
	zkGreetingLeast = 20
	zkGreetingMost  = 128
	// zkLeastTimeout is the shortest session timeout that a broker may grant. The
	// library pings three times in it.
	zkLeastTimeout = 50 * time.Millisecond
	// zkMostTimeout bounds the session timeout that decides how long a broker may be
	// silent.
	zkMostTimeout = 10 * time.Minute

	zkEventNumber = -1
	// zkReadStep is how many bytes are allocated before they have been received.
	zkReadStep = 64 << 10
	// zkQuoteMost is how many bytes are quoted that another program has sent, and
	// zkQuoteWait is how long to wait for them.
	zkQuoteMost = 60
	zkQuoteWait = 200 * time.Millisecond
)

var errZKFrame = errors.New("answer that ZooKeeper does not give")

// zkForeignError means that the program at the other end is not ZooKeeper.
type zkForeignError struct{ received []byte }

func (e *zkForeignError) Error() string {
	text := string(e.received)
	if line := strings.TrimSpace(text); line != "" {
		text, _, _ = strings.Cut(line, "\n")
		text = strings.TrimSpace(text)
	}
	text = text[:min(len(text), zkQuoteMost)]
	return "is not a ZooKeeper server: it said " + strconv.Quote(text)
}

// zkGreeting is the answer to a connect request.
type zkGreeting struct {
	timeout time.Duration
	session int64
}

// readGreeting reads the first frame of a connection, including its length. It returns
// an error at the first byte that ZooKeeper does not send.
func readGreeting(r io.Reader) (frame []byte, greeting zkGreeting, err error) {
	frame = make([]byte, 4, 4+zkGreetingMost)
	n := 0
	for n < 4 {
		k, err := r.Read(frame[n:4])
		n += k
		for i, b := range frame[:n] {
			if i < 3 && b != 0 || i == 3 && (b < zkGreetingLeast || b > zkGreetingMost) {
				return nil, greeting, &zkForeignError{frame[:n]}
			}
		}
		if err != nil && n < 4 {
			return nil, greeting, incompleteGreeting(frame[:n], err)
		}
	}
	body := frame[4 : 4+int(frame[3])]
	if n, err := io.ReadFull(r, body); err != nil {
		return nil, greeting, incompleteGreeting(frame[:4+n], err)
	}
	frame = frame[:4+len(body)]
	version := int32(binary.BigEndian.Uint32(body))
	timeout := int32(binary.BigEndian.Uint32(body[4:]))
	session := int64(binary.BigEndian.Uint64(body[8:]))
	password := int32(binary.BigEndian.Uint32(body[16:]))
	rest := len(body) - zkGreetingLeast
	greeting = zkGreeting{time.Duration(timeout) * time.Millisecond, session}
	// The session is 0 if the former session has expired.
	sane := version == 0 && password >= 0 && int(password) <= rest && int(password) >= rest-1 &&
		(session == 0 || greeting.timeout >= zkLeastTimeout)
	if !sane {
		return nil, greeting, &zkForeignError{frame}
	}
	return frame, greeting, nil
}

// incompleteGreeting returns the error for a greeting of which only a part was received.
func incompleteGreeting(received []byte, err error) error {
	if len(received) == 0 {
		return err
	}
	return &zkForeignError{received}
}

// readReply reads one frame of an established session, including its length, into buf.
// Memory grows with what has been received, not with what was announced.
func readReply(r io.Reader, buf []byte) ([]byte, error) {
	buf = slices.Grow(buf, 4)[:4]
	if _, err := io.ReadFull(r, buf); err != nil {
		return buf[:0], err
	}
	size := int(binary.BigEndian.Uint32(buf))
	if size < zkReplyHeader || size > zkMaxReply {
		return buf[:0], fmt.Errorf("%w: it is %d bytes long", errZKFrame, size)
	}
	for have := 0; have < size; {
		step := min(size-have, zkReadStep)
		buf = slices.Grow(buf, step)
		n, err := io.ReadFull(r, buf[4+have:4+have+step])
		have += n
		buf = buf[:4+have]
		if err != nil {
			return buf[:0], err
		}
	}
	return buf, nil
}

// checkReply returns an error if a length in the answer to an operation goes beyond the
// end of the answer. frame does not include its own length.
func checkReply(frame []byte, op int32) error {
	failed := int32(binary.BigEndian.Uint32(frame[12:])) != 0
	body := zkFields{rest: frame[zkReplyHeader:]}
	switch {
	case int32(binary.BigEndian.Uint32(frame)) == zkEventNumber:
		body.skip(8) // type and state
		body.bytes() // path
	case failed:
		// The library reads nothing more.
	case op == zkOpCreate:
		body.bytes()
	case op == zkOpGetData:
		body.bytes()
		body.skip(zkStatSize)
	case op == zkOpGetChildren2:
		for n := body.number(); n > 0 && !body.short; n-- {
			body.bytes()
		}
		body.skip(zkStatSize)
	case op == zkOpMulti:
		body.multi()
	}
	if body.short {
		return fmt.Errorf("%w: a length inside goes beyond its end", errZKFrame)
	}
	return nil
}

// zkFields iterates over the fields of an answer. short is set when a field goes beyond
// the end.
type zkFields struct {
	rest  []byte
	short bool
}

func (f *zkFields) skip(n int) {
	if n > len(f.rest) {
		f.rest, f.short = nil, true
		return
	}
	f.rest = f.rest[n:]
}

func (f *zkFields) number() int32 {
	if len(f.rest) < 4 {
		f.skip(4)
		return 0
	}
	n := int32(binary.BigEndian.Uint32(f.rest))
	f.skip(4)
	if n < -1 {
		f.short = true
	}
	return n
}

// bytes skips a string or buffer and its length, which is -1 if it is absent.
func (f *zkFields) bytes() {
	if n := f.number(); n > 0 {
		f.skip(int(n))
	}
}

// multi skips the results of a transaction.
func (f *zkFields) multi() {
	for !f.short {
		if len(f.rest) < 9 {
			f.short = true
			return
		}
		kind, done := int32(binary.BigEndian.Uint32(f.rest)), f.rest[4] != 0
		f.skip(9)
		if done {
			return
		}
		switch kind {
		case zkOpError:
			f.skip(4)
		case zkOpCreate:
			f.bytes()
		case zkOpSetData:
			f.skip(zkStatSize)
		case zkOpCheck, zkOpDelete:
		default:
			return // the library gives up here as well
		}
	}
}
