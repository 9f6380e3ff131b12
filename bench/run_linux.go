package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// upgradeSize is the number of sessions for which the aim for upgrades is stated.
const upgradeSize = 2000

// run measures all sizes and writes the results. After an error or Ctrl-C, it writes
// what was complete by then.
func run(ctx context.Context, o options) error {
	b, err := findBinaries(o)
	if err != nil {
		return err
	}
	limit, err := descriptorLimit()
	if err != nil {
		return err
	}
	if most := (limit - 300) / 2; o.Sizes[len(o.Sizes)-1] > most {
		return fmt.Errorf("with %d descriptors per process there can be %d sessions, not %d: see ulimit -n and -sizes", limit, most, o.Sizes[len(o.Sizes)-1])
	}
	// The miners run in this process. Fewer collections leave more of the machine to
	// the targets.
	debug.SetGCPercent(400)
	r := &results{Date: time.Now(), Options: o, Remarks: []string{}, Machine: describeMachine(limit, b)}
	err = measureAll(ctx, o, b, r)
	r.Took = time.Since(r.Date).Round(time.Second).String()
	if err != nil {
		if ctx.Err() != nil {
			err = errors.New("interrupted")
		}
		r.Remarks = append(r.Remarks, "the run ended early: "+firstLine(err.Error()))
	}
	if len(r.Samples) == 0 {
		return err
	}
	if writeErr := r.write(o.out); writeErr != nil {
		return errors.Join(err, writeErr)
	}
	fmt.Print(r.markdown())
	fmt.Printf("\nWritten to %s.\n", filepath.Join(o.out, "{results.md,results.json,chart.svg}"))
	return err
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

func measureAll(ctx context.Context, o options, b binaries, r *results) error {
	for _, size := range o.Sizes {
		for round := 1; round <= o.Rounds; round++ {
			// Another target is first in each round.
			turn := round % len(o.Targets)
			for _, name := range slices.Concat(o.Targets[turn:], o.Targets[:turn]) {
				if err := measure(ctx, o, b, r, name, size, round, (*life).all); err != nil {
					return err
				}
			}
			r.addLatencies(size, round)
		}
	}
	if o.Quick || slices.Contains(o.Sizes, upgradeSize) || !slices.Contains(o.Targets, targetSwitcher) || o.Sizes[len(o.Sizes)-1] < upgradeSize {
		return nil
	}
	for round := 1; round <= o.Rounds; round++ {
		if err := measure(ctx, o, b, r, targetSwitcher, upgradeSize, round, (*life).upgrade); err != nil {
			return err
		}
	}
	return nil
}

// measure runs one life and keeps its figures if it ends without an error.
func measure(ctx context.Context, o options, b binaries, r *results, name string, size, round int, do func(*life, context.Context) error) error {
	where := fmt.Sprintf("%d sessions, round %d, %s", size, round, targetNames[name])
	fmt.Fprintf(os.Stderr, "%s  load %s\n", where, loadAverage())
	var samples []sample
	record := func(figure string, value float64) {
		fmt.Fprintf(os.Stderr, "    %-16s %10.3f %s\n", figure, value, figureOf(figure).Unit)
		samples = append(samples, sample{size, round, name, figure, value})
	}
	remark := func(format string, args ...any) {
		text := where + ": " + fmt.Sprintf(format, args...)
		fmt.Fprintln(os.Stderr, "    "+text)
		r.Remarks = append(r.Remarks, text)
	}
	if err := live(ctx, o, b, name, size, record, remark, do); err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	r.Samples = append(r.Samples, samples...)
	return nil
}

func descriptorLimit() (int, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, err
	}
	return int(min(limit.Max, 1<<20)), nil
}

func describeMachine(limit int, b binaries) machine {
	m := machine{Cores: runtime.NumCPU(), CPU: "unknown", Descriptors: limit, Load: loadAverage()}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		m.Kernel = unix.ByteSliceToString(name.Release[:])
	}
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if found := regexp.MustCompile(`(?m)^model name\s*: (.+)$`).FindSubmatch(info); found != nil {
			m.CPU = string(found[1])
		}
	}
	var memory unix.Sysinfo_t
	if unix.Sysinfo(&memory) == nil {
		m.MemoryMB = int(uint64(memory.Totalram) * uint64(memory.Unit) >> 20)
	}
	m.Programs = append(m.Programs, runtime.Version())
	for _, program := range [][]string{{b.switcher, "-version"}, {b.haproxy, "-v"}, {b.nginx, "-v"}} {
		if program[0] == "" {
			continue
		}
		if out, err := exec.Command(program[0], program[1:]...).CombinedOutput(); err == nil {
			m.Programs = append(m.Programs, strings.TrimSpace(firstLine(string(out))))
		}
	}
	return m
}

func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if fields := strings.Fields(string(b)); err == nil && len(fields) >= 3 {
		return strings.Join(fields[:3], " ")
	}
	return "unknown"
}
