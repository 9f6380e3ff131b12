//go:build linux && e2e

package e2e

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

var costFlag = flag.Bool("translation-cost", false, "measure what relaying with translation costs compared with relaying without")

// cpuTime is the processor time that all threads of a process have used, as the
// scheduler counts it: /proc/PID/stat has steps of 10 ms.
func cpuTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	var total time.Duration
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		ns, err := strconv.ParseInt(strings.Fields(string(content))[0], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		total += time.Duration(ns)
	}
	return total
}

// TestTranslationCost measures the daemon's CPU time per share and per job with
// 1,000 miners at a pool that takes the session's extranonce, where lines are not
// changed, and 1,000 at a pool that picks its own.
func TestTranslationCost(t *testing.T) {
	if !*costFlag {
		return
	}
	const miners, rate, jobs, rounds = 1000, 4000, 40, 3
	const sharing = 6 * time.Second
	plain := testkit.StartPool(t, stratumtest.PoolOptions{Name: "plain", SkipWork: true, JobSize: 1400})
	own := testkit.StartPool(t, stratumtest.PoolOptions{Name: "own", SkipWork: true, JobSize: 1400, Own: &stratumtest.OwnExtranonce{Len: 4, Size: 12}})
	c := daemontest.FileConfig(plain, own)
	c.PoolsPick(own)
	c.ExtraNonce2Size = 8 // so that the session pool's lines need no change
	p := daemontest.Start(t, c, map[string]string{"plain": "plain", "own": "own"})
	kinds := []struct {
		name  string
		pool  *stratumtest.Pool
		fleet *stratumtest.Fleet
		share []float64 // µs
		job   []float64
	}{{name: "plain", pool: plain}, {name: "own", pool: own}}
	for i := range kinds {
		k := &kinds[i]
		k.fleet = testkit.FleetOf(t, p.Addr, k.name, miners, 0, stratumtest.MinerOptions{CheatHash: true})
	}
	for round := range rounds {
		for i := range kinds {
			k := &kinds[(i+round)%len(kinds)]
			testkit.SettleFleet(t, k.fleet)
			before, shares := cpuTime(t, p.Cmd.Process.Pid), k.fleet.Stats().Accepted
			k.fleet.SetRate(rate)
			time.Sleep(sharing)
			st := testkit.SettleFleet(t, k.fleet)
			used := cpuTime(t, p.Cmd.Process.Pid) - before
			k.share = append(k.share, used.Seconds()*1e6/float64(st.Accepted-shares))
			if st.Rejected > 0 || st.Accepted-shares < rate*uint64(sharing.Seconds())/2 {
				t.Errorf("%s: got %d accepted and %d rejected shares, want all accepted", k.name, st.Accepted-shares, st.Rejected)
			}

			before, got := cpuTime(t, p.Cmd.Process.Pid), st.Jobs
			for n := range uint64(jobs) {
				k.pool.NewJob(true)
				err := k.fleet.WaitFor(testkit.LongWaitContext(t), func(st stratumtest.FleetStats) bool { return st.Jobs >= got+(n+1)*miners })
				if err != nil {
					t.Fatal(err)
				}
			}
			used = cpuTime(t, p.Cmd.Process.Pid) - before
			k.job = append(k.job, used.Seconds()*1e6/float64(jobs*miners))
			t.Logf("round %d %-5s: %.2f µs per share, %.2f µs per job", round+1, k.name, k.share[round], k.job[round])
		}
	}
	median := func(v []float64) float64 { return slices.Sorted(slices.Values(v))[len(v)/2] }
	for _, m := range []struct {
		what       string
		plain, own []float64
		aim        float64
	}{{"share", kinds[0].share, kinds[1].share, 1.15}, {"job", kinds[0].job, kinds[1].job, 1.3}} {
		ratio := median(m.own) / median(m.plain)
		t.Logf("per %s: plain %.2f µs, translated %.2f µs, %.2f times as much (aim: %.2f)", m.what, median(m.plain), median(m.own), ratio, m.aim)
	}
}
