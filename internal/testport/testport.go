// Package testport gives loopback ports to tests and simulated programs.
//
// The kernel chooses ports from the range that it also uses for outgoing connections. If
// a listener on such a port is closed and opened again later, or opened by another
// program, a connection may take the port in the meantime. The ports of this package are
// below that range.
package testport

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"time"
)

// The range is divided into blocks. A process gives ports of blocks that no other process
// has, because a program that dials an address where nobody should listen would disturb the
// listener of another one. A process has a block as long as it listens on the block's guard.
const (
	first     = 12000
	blockSize = 500
	blocks    = 36
	guards    = first + blocks*blockSize // the guard of the first block; the others follow
)

// allotment has the ports of this process. The zero value has none yet.
type allotment struct {
	mu     sync.Mutex
	blocks []int
	guards []net.Listener
	given  int // how many of the ports were given, since the first was given again
}

var own allotment

// next returns an address that this process was not given before, until there are
// none left.
func (a *allotment) next() (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.given == len(a.blocks)*blockSize && !a.grow() {
		if len(a.blocks) == 0 {
			return "", errors.New("other programs have all ports for tests")
		}
		a.given = 0
	}
	port := first + a.blocks[a.given/blockSize]*blockSize + a.given%blockSize
	a.given++
	return loopback(port), nil
}

// grow takes another block. Processes that run at the same time begin at different places.
func (a *allotment) grow() bool {
	for i, from := 0, rand.IntN(blocks); i < blocks; i++ {
		block := (from + i) % blocks
		if guard, err := net.Listen("tcp", loopback(guards+block)); err == nil {
			a.blocks = append(a.blocks, block)
			a.guards = append(a.guards, guard)
			return true
		}
	}
	return false
}

func loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// Listen listens on such a port.
func Listen() (net.Listener, error) {
	var err error
	for range 200 {
		var addr string
		if addr, err = own.next(); err != nil {
			return nil, err
		}
		var ln net.Listener
		if ln, err = net.Listen("tcp", addr); err == nil {
			return ln, nil
		}
	}
	return nil, fmt.Errorf("no free port on 127.0.0.1: %w", err)
}

// Addr returns the host:port of such a port where nobody listens. It finds that out
// without listening: see ListenAgain.
func Addr() (string, error) {
	for range 200 {
		addr, err := own.next()
		if err != nil {
			return "", err
		}
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if errors.Is(err, syscall.ECONNREFUSED) {
			return addr, nil
		}
		if err == nil {
			conn.Close()
		}
	}
	return "", errors.New("no free port on 127.0.0.1")
}

// ListenAgain listens where a listener was closed. A process that is being started
// at that moment holds the closed listener until it runs its program.
func ListenAgain(addr string) (net.Listener, error) {
	for end := time.Now().Add(2 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		ln, err := net.Listen("tcp", addr)
		if err == nil || !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(end) {
			return ln, err
		}
	}
}
