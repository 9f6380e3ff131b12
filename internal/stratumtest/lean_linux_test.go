package stratumtest

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func awaitLean(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(Patience); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("timed out waiting for %s", what)
		}
	}
}

func leanScene(t *testing.T, miners int, interval time.Duration) (*LeanPool, *LeanFleet) {
	t.Helper()
	pool, err := StartLeanPool(LeanPoolOptions{Name: "btc", JobSize: 2000, JobInterval: interval})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	fleet, err := NewLeanFleet(LeanFleetOptions{N: miners, Addr: pool.Addr(), WorkerName: func(i int) string { return fmt.Sprintf("alice.%d", i) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fleet.Close)
	awaitLean(t, "all miners to mine", func() bool { return fleet.Stats().Mining == miners })
	return pool, fleet
}

func TestLeanSidesMine(t *testing.T) {
	const miners = 200
	pool, fleet := leanScene(t, miners, 50*time.Millisecond)
	fleet.SetRate(5000)
	awaitLean(t, "shares", func() bool { return fleet.Stats().Submitted > 2000 })
	fleet.SetRate(0)
	awaitLean(t, "answers", func() bool { st := fleet.Stats(); return st.Accepted == st.Submitted })
	awaitLean(t, "jobs", func() bool { return fleet.Stats().Jobs > 3*miners })
	st, ps := fleet.Stats(), pool.Stats()
	if len(st.Faults) > 0 || st.Disconnected > 0 || ps.Strays > 0 || ps.Accepted != st.Accepted || ps.Connections != miners || ps.Authorized != miners {
		t.Errorf("the statistics of the fleet %+v or of the pool %+v are unexpected", st, ps)
	}
	if n := fleet.Latency.Count(); n != st.Accepted {
		t.Errorf("there are %d latencies for %d shares", n, st.Accepted)
	}
}

// Each side reports what the other side must not do.
func TestLeanSidesNotice(t *testing.T) {
	pool, fleet := leanScene(t, 10, 0)
	raw := DialRaw(t, pool.Addr())
	raw.Send(`{"id":"s","method":"mining.subscribe","params":["x","0a0b0c0d"]}` + "\n")
	raw.Send(`{"id":7,"method":"mining.authorize","params":["x","y"]}` + "\n")
	if got := raw.Line(Patience); !strings.Contains(got, `"0a0b0c0d",8]`) {
		t.Errorf("subscribe was answered with %s", got)
	}
	raw.Send(`{"id":8,"method":"mining.submit","params":["x","bcc-1","00","60000000","01234567"]}` + "\n")
	raw.Send(`{"id":9,"method":"mining.submit","params":["x","btc-2","00","60000000","01234567"]}` + "\n")
	awaitLean(t, "strays", func() bool { return pool.Stats().Strays == 2 })
	raw.Close()
	awaitLean(t, "the end of the raw connection", func() bool { return pool.Stats().Connections == 10 })
	pool.Close()
	awaitLean(t, "all miners to be disconnected", func() bool { return fleet.Stats().Disconnected == 10 })
	if faults := fleet.Stats().Faults; len(faults) != 10 {
		t.Errorf("want one fault for each of the 10 miners, got %q", faults)
	}
}
