package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/child"
)

// TestMain lets the test binary run as the children of the bench.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == childArgument {
		exit(runChild(os.Args[2:]))
	}
	os.Exit(m.Run())
}

// A small bench, with the targets that are installed, measures everything and
// leaves nothing running.
func TestBench(t *testing.T) {
	dir := t.TempDir()
	o, err := parseOptions([]string{"-quick", "-sizes", "20", "-rate", "100", "-latency-rate", "100", "-span", "200ms", "-settle", "0", "-load-shares", "50",
		"-switcher", filepath.Join(dir, "stratumSwitcher"), "-out", filepath.Join(dir, "out"), "-targets", "switcher,floor,switcher-tls"})
	if err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-o", o.binary, "github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	b, err := findBinaries(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range o.Targets {
		found := map[string]bool{}
		record := func(figure string, _ float64) { found[figure] = true }
		// The test does not measure the throughput limit, which would take the whole
		// machine.
		do := func(l *life, ctx context.Context) error {
			steps := []func(context.Context) error{l.memory("mem_idle"), l.shares, l.latency, l.jobs}
			if name == targetSwitcher {
				steps = append(steps, l.switches, l.upgrade)
			}
			if name == targetSwitcherTLS {
				steps = append(steps, l.handshakes)
			}
			for _, step := range steps {
				if err := step(ctx); err != nil {
					return err
				}
			}
			return nil
		}
		if err := live(ctx, o, b, name, 20, record, t.Logf, do); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want := []string{"mem_base", "mem_idle", "cpu_connect", "cpu_share", "cpu_job", "lat_p99"}
		if name == targetSwitcher {
			want = append(want, "move_last", "cpu_switch", "load_never", "mem_switched", "upgrade_pause")
		}
		if name == targetSwitcherTLS {
			want = append(want, "cpu_handshake", "cpu_request")
		}
		for _, figure := range want {
			if !found[figure] {
				t.Errorf("%s has no figure %s", name, figure)
			}
		}
	}
	p := process{Process: &child.Process{Cmd: &exec.Cmd{Process: &os.Process{Pid: os.Getpid()}}}}
	for _, pid := range p.family()[1:] {
		if fields := statFields(pid); len(fields) > 0 && fields[0] != "Z" {
			t.Errorf("process %d still exists, with state %s", pid, strings.Join(fields[:2], " "))
		}
	}
}
