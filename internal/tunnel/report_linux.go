package tunnel

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
)

// The child's memory, and its report to the daemon.

// heapSlack is how many bytes of garbage may accumulate. Handshakes produce garbage, and
// connections hardly any. A fixed percentage of the live heap would therefore allow too
// much garbage with many connections, and cause constant collections with few.
const heapSlack = 8 << 20

// collectBySlack sets the collector's percentage so that about heapSlack bytes of garbage
// may accumulate beside the live heap.
func collectBySlack() {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	debug.SetGCPercent(int(min(max(heapSlack*100/max(live[0].Value.Uint64(), 1), 25), 200)))
}

// returnMemory returns memory to the system once a storm of handshakes is over.
func (s *server) returnMemory(handshakes uint64) {
	quiet := handshakes == s.reported
	s.reported = handshakes
	if quiet && s.returned != handshakes {
		s.returned = handshakes
		go func() {
			debug.FreeOSMemory()
			collectBySlack()
		}()
		return
	}
	collectBySlack()
}

func (s *server) report() Report {
	var r Report
	r.Resident, r.Private = ownMemory()
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	r.Heap, r.Goroutines = mem.HeapAlloc, uint64(runtime.NumGoroutine())
	s.mu.Lock()
	r.Connections, r.Handshaking = uint64(len(s.conns)), uint64(s.handshaking+s.clients)
	s.mu.Unlock()
	r.Descriptors, r.DescriptorLimit = 2*r.Connections, descriptorLimit()
	r.Handshakes = s.handshakes.Load()
	for i := range r.Failed {
		r.Failed[i] = s.failed[i].Load()
	}
	return r
}

// ownMemory returns this process's resident memory, and the part of it that is not
// shared with other processes, in bytes.
func ownMemory() (resident, private uint64) {
	b, err := os.ReadFile("/proc/self/smaps_rollup")
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		kb, err := strconv.ParseUint(f[1], 10, 64)
		if err != nil {
			continue
		}
		switch f[0] {
		case "Rss:":
			resident = kb << 10
		case "Private_Clean:", "Private_Dirty:":
			private += kb << 10
		}
	}
	return resident, private
}
