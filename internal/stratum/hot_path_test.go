package stratum

import (
	"fmt"
	"strings"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// BenchmarkHotPathScan finds members of lines.
func BenchmarkHotPathScan(b *testing.B) {
	lines := []struct {
		name string
		line []byte
	}{{"share", benchShare}, {"answer", benchAnswer}, {"job", benchJob}}
	scans := []struct {
		name string
		do   func(line []byte)
	}{
		{"memberValue", func(line []byte) { memberValue(line, MemberResult) }},
		{"lineMethod", func(line []byte) { LineMethod(line) }},
		{"lineID", func(line []byte) { LineID(line) }},
		{"poolLineKind", func(line []byte) { PoolLineKind(line) }},
		{"minerLineKind", func(line []byte) { MinerLineKind(line) }},
	}
	for _, scan := range scans {
		for _, l := range lines {
			b.Run(scan.name+"/"+l.name, func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(len(l.line)))
				for b.Loop() {
					scan.do(l.line)
				}
			})
		}
	}
}

// BenchmarkHotPathRequests keeps requests until they are answered, while as many
// others are unanswered.
func BenchmarkHotPathRequests(b *testing.B) {
	for _, waiting := range []int{0, 1, 10, 100} {
		b.Run(fmt.Sprintf("push find remove/%d waiting", waiting), func(b *testing.B) {
			var q RequestQueue
			for i := range waiting {
				q.PushShare(1, fmt.Appendf(nil, "%d", 100000+i), 0)
			}
			id := []byte("4711")
			b.ReportAllocs()
			for b.Loop() {
				q.PushShare(1, id, 0)
				at, after := q.Find(1, id)
				if at < 0 || after {
					b.Fatalf("found at %d, after another %t", at, after)
				}
				if _, share := q.Remove(at); !share {
					b.Fatalf("found at %d, after another %t", at, after)
				}
			}
		})
	}
}

// BenchmarkHotPathHandshake measures what is done once per connection. It decodes,
// so it allocates.
func BenchmarkHotPathHandshake(b *testing.B) {
	for _, text := range []string{
		`{"id":1,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"1fffe000","version-rolling.min-bit-count":2}]}`,
		`{"id":2,"method":"mining.subscribe","params":["cgminer/4.12.0"]}`,
		`{"id":3,"method":"mining.authorize","params":["alice.w1234","x"]}`,
	} {
		line := []byte(text + "\n")
		b.Run("parseRequest/"+strings.TrimPrefix(string(LineMethod(line)), "mining."), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ParseRequest(line); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	clean := stratumtest.JobOfSize("btc-816", 1400, true)
	for name, job := range map[string][]byte{"other job": benchJob, "clean job": clean} {
		b.Run("setClean/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if len(SetClean(Bitcoin, job)) == 0 {
					b.Fatal("no line")
				}
			}
		})
	}
}
