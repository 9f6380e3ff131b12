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
	// Other programs may have taken some of them in the meantime.
	taken := 0
	for addr := range seen {
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			t.Log(err)
			taken++
			continue
		}
		ln.Close()
	}
	if taken > len(seen)/20 {
		t.Errorf("%d of %d addresses can not be listened on", taken, len(seen))
	}
}

func TestTakenPortsArePassedOver(t *testing.T) {
	taken, err := Listen()
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := uint64(taken.Addr().(*net.TCPAddr).Port)
	for turn.Load()%count != (port-first+count-stride)%count {
		turn.Add(stride) // until the one that is in use is next
	}
	ln, err := Listen()
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if ln.Addr().String() == taken.Addr().String() {
		t.Error("a port that is in use was given")
	}
	for turn.Load()%count != (port-first+count-stride)%count {
		turn.Add(stride)
	}
	addr, err := Addr()
	if err != nil {
		t.Fatal(err)
	}
	if addr == taken.Addr().String() {
		t.Error("an address where somebody listens was given out")
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
