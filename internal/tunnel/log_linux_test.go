//go:build linux && e2e

package tunnel

import (
	"bytes"
	"sync"
	"testing"
)

// lockedBuffer is written by one goroutine and read by another.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Contains(l.b.Bytes(), []byte(text))
}

// disturb sends the process messages that it complains of.
func disturb(t *testing.T, tunnel *Tunnel, times int) {
	t.Helper()
	tunnel.mu.Lock()
	control := tunnel.all[0].control
	tunnel.mu.Unlock()
	for range times {
		if err := control.send([]byte("nonsense"), nil); err != nil {
			t.Fatal(err)
		}
	}
}

// What a tunnel process writes to standard error is in the daemon's log.
func TestChildLog(t *testing.T) {
	t.Parallel()
	log := &lockedBuffer{}
	tunnel, a := newTunnel(t, func(o *Options) { o.Stderr = log })
	connectSecured(t, tunnel, a)
	disturb(t, tunnel, 1)
	eventually(t, "the complaint", func() bool { return log.has("tunnel: control socket: ") })
}

// blockedWriter takes nothing until it is closed.
type blockedWriter chan struct{}

func (w blockedWriter) Write(b []byte) (int, error) {
	<-w
	return len(b), nil
}

// A log that takes nothing does not hold up a tunnel process, however much it writes.
func TestChildLogUnread(t *testing.T) {
	t.Parallel()
	blocked := make(blockedWriter)
	tunnel, a := newTunnel(t, func(o *Options) { o.Stderr = blocked })
	t.Cleanup(func() { close(blocked) }) // before the tunnel is closed
	m := connectSecured(t, tunnel, a)
	disturb(t, tunnel, 5000) // 250 KB, more than the pipe holds
	exchange(t, m.tls, m.plain, "hello")
	m = connectSecured(t, tunnel, a)
	exchange(t, m.tls, m.plain, "hello")
}
