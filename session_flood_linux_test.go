//go:build linux && !portable_relay

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang/glog"
	"golang.org/x/sys/unix"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/relay"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// floodSize returns how many connections a flood has.
func floodSize() int {
	if raceDetector {
		return 500
	}
	return 2000
}

// heapWatch records by how much the heap has grown at most.
type heapWatch struct {
	before uint64
	most   uint64
	stop   chan struct{}
	done   sync.WaitGroup
}

func watchHeap() *heapWatch {
	w := &heapWatch{stop: make(chan struct{})}
	runtime.GC()
	w.before = ownHeap()
	w.done.Go(func() {
		for {
			w.most = max(w.most, ownHeap())
			select {
			case <-w.stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	return w
}

func ownHeap() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}

// grown ends the watch and returns the result.
func (w *heapWatch) grown() int64 {
	close(w.stop)
	w.done.Wait()
	return int64(w.most) - int64(w.before)
}

// minesOn wants a miner to have shares accepted until a condition holds, and logs
// how long the slowest share took.
func minesOn(t *testing.T, m *stratumtest.Miner, what string, limit time.Duration, until func() bool) {
	t.Helper()
	var slowest time.Duration
	ctx, cancel := stratumtest.WithPatience(context.Background(), limit)
	defer cancel()
	for !until() {
		if ctx.Err() != nil {
			t.Fatalf("not in time: %s", what)
		}
		began := time.Now()
		waitAccepted(t, m, 1)
		slowest = max(slowest, time.Since(began))
	}
	t.Logf("%s: a share of another miner took %v at most", what, slowest)
	checkMiner(t, m)
}

// There are endless connections from one address, or from many. The limits hold,
// and miners that are connected continue to mine.
func TestFloodOfConnections(t *testing.T) {
	for _, c := range []struct {
		name, reason string
		change       func(*Config)
		source       func(int) string
		stay         int
	}{
		{"from one address", "per_ip", func(c *Config) { c.MaxSessionsPerIP = 20 }, func(int) string { return "127.0.0.2" }, 20},
		{"from many", "full", func(c *Config) { c.MaxSessions, c.MaxSessionsPerIP = 101, 2 },
			func(i int) string { return fmt.Sprintf("127.0.%d.%d", 1+i/200, 1+i%200) }, 100},
	} {
		t.Run(c.name, func(t *testing.T) {
			sw := startLimited(t, c.change)
			glog.Error("this opens the log files, which do not belong to the flood")
			before := descriptors()
			m := startMiner(t, stratumtest.MinerOptions{Addr: sw.addr, Worker: "alice.good", Rate: 100})
			waitAccepted(t, m, 1)
			flood := floodSize()
			conns := make([]net.Conn, flood)
			var dialers sync.WaitGroup
			for from := range 4 {
				dialers.Go(func() {
					for i := from; i < flood; i += 4 {
						d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(c.source(i))}, Timeout: testWait}
						nc, err := d.Dial("tcp", sw.addr)
						if err != nil {
							t.Error(err)
							return
						}
						conns[i] = nc
						io.WriteString(nc, rawSubscribe+"\n") // the connection may be refused already
					}
				})
			}
			refused := func() int { return int(sw.refusalCounts()[c.reason]) }
			minesOn(t, m, "the flood is over", 4*testWait, func() bool { return refused() >= flood-c.stay })
			dialers.Wait()
			if n := refused(); n != flood-c.stay {
				t.Errorf("%d connections were refused, want %d", n, flood-c.stay)
			}
			open := 0
			for _, nc := range conns {
				if isOpen(t, nc) {
					open++
				}
				nc.Close()
			}
			if open != c.stay {
				t.Errorf("%d connections stay open, want %d", open, c.stay)
			}
			m.Close()
			sw.wantNothingLeft(t)
			wantDescriptors(t, before)
			if n := sw.booksOfAddresses(); n != 0 {
				t.Errorf("%d addresses are still stored", n)
			}
		})
	}
}

// Thousands of miners send a byte now and then, and thousands read in that way.
// Both are closed when their time is up, little is stored for them, and another
// miner continues to mine.
func TestFloodOfSlowPeers(t *testing.T) {
	flood := floodSize()
	const (
		jobSize = 40 << 10
		pace    = 200 * time.Millisecond
	)
	btc := startPool(t, stratumtest.PoolOptions{Name: "btc", ShareBits: 4, JobSize: jobSize})
	sw := startSwitcher(t, newMemoryCoins(map[string]string{"alice": "btc"}), []*stratumtest.Pool{btc}, nil)
	m := startMiner(t, stratumtest.MinerOptions{Addr: sw.addr, Worker: "alice.good", Rate: 100})
	waitAccepted(t, m, 1)
	before := descriptors()

	// The readers begin as ordinary miners with small buffers.
	readers := make([]*net.TCPConn, flood)
	for i := range readers {
		readers[i] = dialFrom(t, "127.0.0.2", sw.addr)
		readers[i].SetReadBuffer(4096)
		fmt.Fprintf(readers[i], "%s\n%s\n", rawSubscribe, rawAuthorize)
	}
	minesOn(t, m, "all readers mine", 4*testWait, func() bool { return sw.sessionsIn(phaseRelaying) == flood+1 })
	for _, l := range sw.loops {
		l.Call(func() {
			l.SetWriteTimeout(3 * time.Second)
			for _, s := range l.allSessions() {
				if s.auth.name.Miner != ".good" {
					unix.SetsockoptInt(s.miner.FD(), unix.SOL_SOCKET, unix.SO_SNDBUF, 4096)
				}
			}
		})
	}
	sw.setTiming(func(tm *timing) { tm.firstByte, tm.authorize = 2*time.Second, 4*time.Second })
	senders := make([]*net.TCPConn, flood)
	for i := range senders {
		senders[i] = dialFrom(t, "127.0.0.3", sw.addr)
	}

	heap := watchHeap()
	done := make(chan struct{})
	var slow sync.WaitGroup
	slow.Go(func() {
		text := strings.Repeat(rawSubscribe, 10)
		buf := make([]byte, 1)
		for at := 0; ; at++ {
			for _, nc := range senders {
				nc.Write([]byte{text[at%len(text)]})
			}
			for _, nc := range readers {
				nc.SetReadDeadline(time.Now().Add(time.Microsecond))
				nc.Read(buf)
			}
			select {
			case <-done:
				return
			case <-time.After(pace):
			}
		}
	})
	for range 3 { // more than the kernel buffers
		btc.NewJob(false)
	}
	var unsent, partial int
	minesOn(t, m, "all slow ones are closed", time.Minute, func() bool {
		left := 0
		var u, p int
		sw.eachSession(func(s *Session) {
			left++
			u += s.miner.Backlog()
			p += len(s.miner.Unconsumed())
		})
		unsent, partial = max(unsent, u), max(partial, p)
		return left == 1
	})
	close(done)
	slow.Wait()
	grown := heap.grown()
	t.Logf("%d slow readers and senders: %d KB unsent, %d KB of unfinished lines, heap grown by %d MB", flood, unsent>>10, partial>>10, grown>>20)
	if unsent == 0 || partial == 0 {
		t.Error("nothing was unsent, so nobody was slow")
	}
	if limit := flood * (jobSize + relay.ReadChunk); unsent > limit {
		t.Errorf("%d bytes waited for slow readers, want at most %d", unsent, limit)
	}
	for _, nc := range append(readers, senders...) {
		nc.Close()
	}
	waitConnections(t, btc, 1)
	wantDescriptors(t, before)
}

// A miner that sends endless requests and reads no answer is not read, in the
// handshake or while mining, until it reads, and is closed when its time is up.
func TestMinerThatTakesNoAnswers(t *testing.T) {
	t.Parallel()
	for _, mining := range []bool{false, true} {
		t.Run(fmt.Sprintf("mining=%v", mining), func(t *testing.T) {
			sw := startLimited(t, func(*Config) {})
			for _, l := range sw.loops {
				l.Call(func() { l.SetWriteTimeout(time.Second) })
			}
			nc := dialFrom(t, "127.0.0.2", sw.addr)
			if mining {
				fmt.Fprintf(nc, "%s\n%s\n", rawSubscribe, rawAuthorize)
				eventually(t, "it mines", func() bool { return sw.sessionsIn(phaseRelaying) == 1 })
			}
			eventually(t, "it is there", func() bool { return sw.sessionCount() == 1 })
			sw.eachSession(func(s *Session) {
				unix.SetsockoptInt(s.miner.FD(), unix.SOL_SOCKET, unix.SO_SNDBUF, 4096)
			})
			var sender sync.WaitGroup
			sender.Go(func() {
				ask := strings.Repeat(`{"id":"`+strings.Repeat("i", 10000)+`","method":"mining.extranonce.subscribe","params":[]}`+"\n", 20)
				nc.SetWriteDeadline(time.Now().Add(4 * testWait))
				for {
					if _, err := io.WriteString(nc, ask); err != nil {
						return
					}
				}
			})
			most := 0
			eventually(t, "it is closed", func() bool {
				sw.eachSession(func(s *Session) {
					most = max(most, s.miner.Backlog())
				})
				return sw.sessionCount() == 0
			})
			sender.Wait()
			limit := 2 * relay.ReadChunk
			if mining {
				limit += relay.MaxUnsent / 2
			}
			if most == 0 || most > limit {
				t.Errorf("%d bytes of answers waited, want some and at most %d", most, limit)
			}
		})
	}
}

// Strangers that send more requests than any handshake has are closed.
func TestFloodOfRequests(t *testing.T) {
	sw := startLimited(t, func(*Config) {})
	m := startMiner(t, stratumtest.MinerOptions{Addr: sw.addr, Worker: "alice.good", Rate: 100})
	waitAccepted(t, m, 1)
	request := `{"method":"mining.submit"}` + "\n"
	for range 100 {
		nc := dialFrom(t, "127.0.0.2", sw.addr)
		go func() {
			for {
				if _, err := io.WriteString(nc, strings.Repeat(request, 2000)); err != nil {
					return
				}
			}
		}()
	}
	tooMany := func() int64 { return sw.monitor.failures[failTooMany].Load() }
	minesOn(t, m, "all are closed", testWait, func() bool { return tooMany() == 100 })
	answered := sw.monitor.failures[failShareTooEarly].Load()
	if want := int64(100 * maxHandshakeLines); answered != want {
		t.Errorf("%d requests were answered, want %d", answered, want)
	}
}
