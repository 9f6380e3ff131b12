//go:build linux && e2e

package e2e

import (
	"context"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

var logFaultSeconds = flag.Int("log-fault-seconds", 12, "how many seconds the test with faults of the log runs")

// shareTimer submits one share after another and notes how long answers take.
type shareTimer struct {
	miner *stratumtest.Miner
	stop  func()

	mu      sync.Mutex
	shares  int
	longest time.Duration
	ignore  bool // true during an upgrade
}

func startShareTimer(t *testing.T, addr string) *shareTimer {
	p := &shareTimer{miner: testkit.StartMiner(t, stratumtest.MinerOptions{Addr: addr, Worker: "timed.1", Manual: true})}
	if err := p.miner.WaitPool(testkit.LongWaitContext(t), "btc"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			before := p.ignored()
			began := time.Now()
			if _, err := p.miner.Submit(ctx, nil); err != nil {
				if ctx.Err() == nil {
					t.Errorf("the timed share: %v", err)
				}
				return
			}
			took := time.Since(began)
			p.mu.Lock()
			p.shares++
			if !before && !p.ignore {
				p.longest = max(p.longest, took)
			}
			p.mu.Unlock()
			time.Sleep(2 * time.Millisecond)
		}
	}()
	p.stop = func() { cancel(); <-done }
	t.Cleanup(p.stop)
	return p
}

func (p *shareTimer) ignored() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ignore
}

// slowest returns how long the slowest share took since the last call.
func (p *shareTimer) slowest() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	longest := p.longest
	p.longest = 0
	return longest
}

func (p *shareTimer) setIgnore(ignore bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ignore = ignore
}

func (p *shareTimer) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.shares
}

// The log's disk fills up and gets room again, standard error is blocked and read
// again, and log files and their directory are moved away, with upgrades in
// between. No miner is lost, and no share takes longer than at a control daemon
// that has none of these faults.
func TestLogFaults(t *testing.T) {
	t.Parallel()
	btc, bcc := testkit.TwoPools(t)
	coins := map[string]string{"*": "btc"}
	args := []string{"-alsologtostderr", "-v=3", "-logbuflevel=-1"}
	config := daemontest.FileConfig(btc, bcc)
	config.DrainSeconds = 1
	s := newLogScene(t, config, coins)
	control := newLogScene(t, config, coins)
	go func() { _, _ = io.Copy(io.Discard, control.read) }()
	control.begin(append(args, "-log_dir="+control.logs)...)
	s.begin(append(args, "-log_dir="+filepath.Join(s.logs, "."))...)
	miners, others := testkit.StartMiners(t, s.Addr, "alice", 10), testkit.StartMiners(t, control.Addr, "alice", 10)
	probe, other := startShareTimer(t, s.Addr), startShareTimer(t, control.Addr)
	pair := &sharePair{
		t: t, faulted: probe.slowest, control: other.slowest,
		limit: func(control time.Duration) time.Duration { return control + max(control, 100*time.Millisecond) },
	}
	pair.begin()

	var stderr stallReader
	go stderr.run(s.read)
	filler := filepath.Join(s.logs, "filler")
	faults := []struct {
		name       string
		begin, end func() error
	}{
		{"disk full", func() error { return fillDisk(filler) }, func() error { return os.Remove(filler) }},
		{"standard error blocked", func() error { stderr.gate.Lock(); return nil }, func() error { stderr.gate.Unlock(); return nil }},
		{"files moved", func() error { return moveLogs(s.logs, ".moved") }, func() error { return removeLogs(s.logs) }},
		{"all at once", func() error { stderr.gate.Lock(); return fillDisk(filler) }, func() error { stderr.gate.Unlock(); return removeLogs(s.logs) }},
	}
	at, rounds, pause := "btc", 0, 0.0
	for end := time.Now().Add(time.Duration(*logFaultSeconds) * time.Second); rounds < len(faults) || time.Now().Before(end); rounds++ {
		fault := faults[rounds%len(faults)]
		if err := fault.begin(); err != nil {
			t.Fatalf("%s: %v", fault.name, err)
		}
		for range 8 {
			chatty(t, s.Addr)
			chatty(t, control.Addr)
		}
		at = map[string]string{"btc": "bcc", "bcc": "btc"}[at]
		for _, p := range []*logScene{s, control} {
			p.SetCoins(map[string]string{"*": at})
		}
		testkit.WantMining(t, miners, at)
		repeat := pair.end(fault.name)
		probe.setIgnore(true) // the upgrade's pause is not caused by the faults
		other.setIgnore(true)
		s.upgradeUnheard()
		probe.setIgnore(false)
		other.setIgnore(false)
		pause = max(pause, s.metric("stratum_switcher_last_upgrade_pause_seconds"))
		testkit.WantMining(t, miners, at)
		testkit.WantMining(t, others, at)
		if err := fault.end(); err != nil {
			t.Fatalf("%s: %v", fault.name, err)
		}
		chatty(t, s.Addr)
		chatty(t, control.Addr)
		if pair.end(fault.name) || repeat {
			rounds-- // repeat the same fault
		}
	}
	testkit.WaitUntil(t, "the log goes on", func() bool {
		chatty(t, s.Addr)
		return strings.Contains(s.logged("INFO"), "request method=")
	})
	probe.stop()
	other.stop()
	pair.end("the end")
	t.Logf("%d rounds, %d shares; the longest pause of an upgrade %.0f ms; lines left out: files %.0f, standard error %.0f",
		rounds, probe.count(), 1000*pause,
		s.metric(`stratum_switcher_log_lines_dropped_total{output="INFO"}`), s.metric(`stratum_switcher_log_lines_dropped_total{output="stderr"}`))
	testkit.WaitUntil(t, "no links wait for late shares", func() bool {
		return s.metric("stratum_switcher_draining_links") == 0 && control.metric("stratum_switcher_draining_links") == 0
	})
	used, unharmed := s.Usage(strings.TrimPrefix(s.web, "http://")), control.Usage(strings.TrimPrefix(control.web, "http://"))
	t.Logf("with the faults %v; without %v", used, unharmed)
	room := 48 << 10 // KB; all queues are full and being written, and there is as much garbage
	if *daemontest.DaemonRace {
		room *= 4
	}
	if used.Private > unharmed.Private+room || used.Descriptors > unharmed.Descriptors+2 || used.Goroutines > unharmed.Goroutines+4 {
		t.Errorf("the daemon holds %v, without the faults %v, which differ too much", used, unharmed)
	}
	// What delays both may, by chance, delay only one of them.
	pair.check()
	for _, m := range append(miners, probe.miner) {
		testkit.CheckMiner(t, m)
	}
	s.endsOnSignal()
}

// stallReader reads while its gate is not locked.
type stallReader struct{ gate sync.Mutex }

func (r *stallReader) run(from io.Reader) {
	buf := make([]byte, 64<<10)
	for {
		r.gate.Lock()
		//lint:ignore SA2001 it is only waited for
		r.gate.Unlock()
		if _, err := from.Read(buf); err != nil {
			return
		}
	}
}

// moveLogs renames all log files in a directory.
func moveLogs(dir, suffix string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.log.*"))
	for _, path := range files {
		if renameErr := os.Rename(path, path+suffix); renameErr != nil {
			err = renameErr
		}
	}
	return err
}

// removeLogs removes everything in a directory.
func removeLogs(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	for _, path := range files {
		if removeErr := os.RemoveAll(path); removeErr != nil {
			err = removeErr
		}
	}
	return err
}
