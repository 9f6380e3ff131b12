//go:build linux && !portable_relay

package main

import (
	"bytes"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// promptPool answers the handshake of a link at once, all in one write, and
// costs next to nothing: what is measured with it is the switcher. It is one
// thread that waits for all its links.
type promptPool struct {
	addr  string
	links atomic.Int64 // that were answered
	epoll int
	wg    sync.WaitGroup
}

func startPromptPool(t *testing.T) *promptPool {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ln, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	must(err)
	must(unix.Bind(ln, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	must(unix.Listen(ln, 4096))
	at, err := unix.Getsockname(ln)
	must(err)
	// It is woken when a link has sent something.
	must(unix.SetsockoptInt(ln, unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 5))
	p := &promptPool{addr: fmt.Sprintf("127.0.0.1:%d", at.(*unix.SockaddrInet4).Port)}
	p.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	must(err)
	must(p.watch(ln))
	var stop [2]int
	must(unix.Pipe2(stop[:], unix.O_CLOEXEC))
	must(p.watch(stop[0]))
	p.wg.Go(func() { p.serve(ln, stop[0]) })
	t.Cleanup(func() {
		unix.Close(stop[1])
		p.wg.Wait()
		for _, fd := range []int{ln, p.epoll, stop[0]} {
			unix.Close(fd)
		}
	})
	return p
}

func (p *promptPool) watch(fd int) error {
	return unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

func (p *promptPool) serve(ln, stop int) {
	events := make([]unix.EpollEvent, 256)
	buf := make([]byte, 64<<10)
	links := make(map[int]bool) // by descriptor: whether it was answered
	defer func() {
		for fd := range links {
			unix.Close(fd)
		}
	}()
	for {
		n, err := unix.EpollWait(p.epoll, events, -1)
		if err != nil && err != unix.EINTR {
			return
		}
		for _, ev := range events[:max(n, 0)] {
			switch fd := int(ev.Fd); fd {
			case stop:
				return
			case ln:
				if fd, _, err := unix.Accept4(ln, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC); err == nil {
					links[fd] = false
					p.read(fd, links, buf)
					p.watch(fd)
				}
			default:
				p.read(fd, links, buf)
			}
		}
	}
}

func (p *promptPool) read(fd int, links map[int]bool, buf []byte) {
	n, err := unix.Read(fd, buf)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
	case n <= 0:
		delete(links, fd)
		unix.Close(fd)
	case !links[fd]:
		// The switcher sends subscribe and authorize at once. The extranonce is
		// subscribe's second parameter.
		_, params, _ := bytes.Cut(buf[:n], []byte(`"params"`))
		if quoted := bytes.SplitN(params, []byte{'"'}, 5); len(quoted) == 5 {
			links[fd] = true
			p.links.Add(1)
			unix.Write(fd, fmt.Appendf(buf[:0], `{"id":"subscribe","result":[[],"%s",8],"error":null}`+"\n"+
				`{"id":"auth","result":true,"error":null}`+"\n"+
				`{"id":null,"method":"mining.set_difficulty","params":[1]}`+"\n"+
				`{"id":null,"method":"mining.notify","params":["1","00","","",[],"20000000","1d00ffff","60000000",true]}`+"\n", bytes.Clone(quoted[3])))
		}
	}
}

// All miners of one sub-account move to a pool that answers at once. The log
// says how long that took: from the order until the last miner has the new
// pool's job.
func TestMoveToPromptPool(t *testing.T) {
	miners, moves := 500, 2
	if *longTests {
		miners, moves = 5000, 21
	}
	pools := map[string]*promptPool{"btc": startPromptPool(t), "bcc": startPromptPool(t)}
	c := fileConfig()
	c.PoolIdleSeconds, c.DrainSeconds = 0, 1
	for coin, p := range pools {
		c.StratumServerMap[coin] = StratumServerInfo{URL: p.addr, UserSuffix: coin}
	}
	p := startProcess(t, c, map[string]string{"alice": "btc"})
	conns := make([]net.Conn, miners)
	for i := range conns {
		conn, err := net.Dial("tcp", p.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conns[i] = conn
		fmt.Fprintf(conn, `{"id":1,"method":"mining.subscribe","params":["m"]}`+"\n"+`{"id":2,"method":"mining.authorize","params":["alice.%d","x"]}`+"\n", i)
	}
	eventually(t, "all miners at the first pool", func() bool { return pools["btc"].links.Load() == int64(miners) })
	var times []int // ms
	used := processCPU(t, p.cmd.Process.Pid)
	for i := range moves {
		coin := []string{"bcc", "btc"}[i%2]
		from := p.logged()
		p.setCoins(map[string]string{"alice": coin})
		m := p.waitLogFrom(from, fmt.Sprintf(`switch account="alice" to="%s" miners=(\d+) failed_links=(\d+) ms=(\d+): done`, coin))
		if n, _ := strconv.Atoi(m[1]); n != miners || m[2] != "0" {
			t.Errorf("move %d: %s miners, %s links failed", i+1, m[1], m[2])
		}
		t.Logf("move %d: %s miners in %s ms", i+1, m[1], m[3])
		ms, _ := strconv.Atoi(m[3])
		times = append(times, ms)
		time.Sleep(time.Duration(c.DrainSeconds)*time.Second + 500*time.Millisecond) // former links end
	}
	slices.Sort(times)
	used = processCPU(t, p.cmd.Process.Pid) - used
	t.Logf("%d moves of %d miners: %d-%d ms, median %d ms; %v of CPU for a switch and the former link's end",
		moves, miners, times[0], times[moves-1], times[moves/2], used/time.Duration(moves*miners))
	for i, conn := range conns {
		conn.SetReadDeadline(time.Now().Add(testWait))
		seen := 0
		for buf := make([]byte, 16<<10); seen < moves+1; {
			n, err := conn.Read(buf)
			if err != nil {
				t.Fatalf("miner %d: %v after %d jobs", i, err, seen)
			}
			seen += bytes.Count(buf[:n], []byte(`"mining.notify"`))
		}
	}
}
