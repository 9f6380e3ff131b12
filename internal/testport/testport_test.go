package testport

import (
	"net"
	"testing"
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
			t.Error(err) // another program may have taken it, though hardly
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
	port := uint64(taken.Addr().(*net.TCPAddr).Port)
	for turn.Load()%count != (port-first+count-stride)%count {
		turn.Add(stride) // until the taken one is next
	}
	ln, err := Listen()
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if ln.Addr().String() == taken.Addr().String() {
		t.Error("a port that is listened on was given again")
	}
}
