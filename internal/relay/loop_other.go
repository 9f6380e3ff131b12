//go:build !linux || portable_relay

package relay

import (
	"net/netip"
	"time"
)

// This is the relay for systems without epoll. It has the same loops and sockets as loop_linux.go, with
// one goroutine that reads each socket and one that writes the bytes that wait for its peer. It is for
// building and testing the program on these systems, not for thousands of miners.

// Loop calls the owners of its sockets on one goroutine.
type Loop struct {
	core
	woken chan struct{}

	// The following fields belong to the loop's goroutine.

	sockets map[*Socket]struct{}
	again   []*Socket
}

// NewLoop returns a loop that is not running yet. Close frees it.
func NewLoop(limits Limits) (*Loop, error) {
	l := &Loop{woken: make(chan struct{}, 1), sockets: make(map[*Socket]struct{})}
	l.limits, l.stallLimit, l.began = limits, writeTimeout, time.Now()
	l.wake = func() {
		select {
		case l.woken <- struct{}{}:
		default:
		}
	}
	return l, nil
}

// Close closes the sockets of a loop that is not running.
func (l *Loop) Close() {
	for s := range l.sockets {
		s.Close()
	}
	if l.alarm != nil {
		l.alarm.Stop()
	}
}

func (l *Loop) run() {
	defer close(l.stopped)
	for !l.stopping {
		l.BeginRound()
		l.runMail()
		l.runTimers()
		for len(l.again) > 0 {
			s := l.again[0]
			l.again = l.again[1:]
			s.queued = false
			switch {
			case s.closed:
			case s.failure != nil:
				s.lost(s.failure)
			case !s.paused && len(s.partial) > 0:
				s.deliver()
			}
			s.letRead()
		}
		if !l.stopping {
			<-l.woken
		}
	}
}

// Held counts the loop's sockets and timers. Only the loop's goroutine may call it.
func (l *Loop) Held() Held { return Held{Sockets: len(l.sockets), Timers: l.timers.times()} }

// Adopt makes h a socket of this loop. Only the loop's goroutine may call it.
func (l *Loop) Adopt(h Handle, owner Owner) (*Socket, error) {
	s := l.add(owner)
	s.begin(h.conn)
	return s, nil
}

func (l *Loop) add(owner Owner) *Socket {
	s := &Socket{loop: l, owner: owner, taken: make(chan struct{}, 1)}
	l.sockets[s] = struct{}{}
	return s
}

// Dial begins to connect to addr. SocketConnected reports the outcome to the owner. Bytes that the
// owner writes earlier are sent when the connection is established. Only the loop's goroutine may call
// Dial.
func (l *Loop) Dial(addr netip.AddrPort, owner Owner) (*Socket, error) {
	s := l.add(owner)
	go s.dial(addr)
	return s, nil
}
