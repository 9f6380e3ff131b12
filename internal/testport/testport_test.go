package testport

import (
	"net"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"
)

// Ports are not given twice, and can be listened on again.
func TestAddrs(t *testing.T) {
	seen := make(map[string]bool)
	for range 500 {
		addr, err := Addr()
		if err != nil {
			t.Fatal(err)
		}
		if seen[addr] {
			t.Fatalf("%s was given twice", addr)
		}
		seen[addr] = true
	}
	for addr := range seen {
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			t.Error(err)
			continue
		}
		ln.Close()
	}
}

func TestTakenPortsArePassedOver(t *testing.T) {
	taken, err := Listen()
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	again := func() { // the port that is in use is the next one
		own.mu.Lock()
		defer own.mu.Unlock()
		own.given--
	}
	again()
	ln, err := Listen()
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if ln.Addr().String() == taken.Addr().String() {
		t.Error("a port that is in use was given")
	}
	again()
	addr, err := Addr()
	if err != nil {
		t.Fatal(err)
	}
	if addr == ln.Addr().String() {
		t.Error("an address where somebody listens was given out")
	}
}

// Two processes never have the same port, and a process gets another block when it has
// given all ports of its first one.
func TestBlocksOfProcesses(t *testing.T) {
	var a, b allotment
	defer func() {
		for _, guard := range append(a.guards, b.guards...) {
			guard.Close()
		}
	}()
	seen := make(map[string]bool)
	for range blockSize + 1 {
		for _, process := range []*allotment{&a, &b} {
			addr, err := process.next()
			if err != nil {
				t.Fatal(err)
			}
			if seen[addr] {
				t.Fatalf("%s was given twice", addr)
			}
			seen[addr] = true
		}
	}
	if len(a.blocks) != 2 || len(b.blocks) != 2 {
		t.Errorf("the processes have %d and %d blocks", len(a.blocks), len(b.blocks))
	}
}

// Processes that are started meanwhile do not keep a port from being listened on
// again.
func TestListenAgain(t *testing.T) {
	done := make(chan struct{})
	var starts sync.WaitGroup
	for range 2 {
		starts.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					exec.Command(os.Args[0], "-test.run", "^$").Run()
				}
			}
		})
	}
	defer starts.Wait()
	defer close(done)
	ln, err := Listen()
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		ln.Close()
		if ln, err = ListenAgain(ln.Addr().String()); err != nil {
			t.Fatal(err)
		}
	}
	ln.Close()
}
