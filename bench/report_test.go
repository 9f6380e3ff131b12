package main

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestMiddle(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{{[]float64{3}, 3}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 2, 9}, 3}} {
		if got := middle(c.values); got != c.want {
			t.Errorf("the middle of %v is %v, want %v", c.values, got, c.want)
		}
	}
}

// someResults returns results of three rounds at two sizes. The switcher's values are
// smaller than those of the other targets.
func someResults() *results {
	r := &results{Options: options{Rounds: 3}}
	for _, size := range []int{1000, 5000} {
		for round := 1; round <= 3; round++ {
			for i, target := range allTargets {
				for _, f := range []string{"cpu_share", "cpu_job", "mem_idle", "lat_p50"} {
					r.add(size, round, target, f, float64(2*(i+1)+round))
				}
			}
			r.add(size, round, targetSwitcher, "move_last", 400+100*float64(round))
			r.addLatencies(size, round)
		}
	}
	return r
}

func TestSummary(t *testing.T) {
	r := someResults()
	r.summarise()
	m, ok := r.medianOf(5000, targetSwitcher, "cpu_share")
	if !ok || m.Median != 4 || m.Least != 3 || m.Most != 5 || m.Spread != 50 || m.OfHAProxy != 0.667 || m.OfFloor != 0.4 {
		t.Errorf("the switcher's CPU per share is %+v", m)
	}
	if m, _ := r.medianOf(1000, targetSwitcher, "added_p50"); m.Median != -8 {
		t.Errorf("the switcher added %v ms to the direct way, want -8", m.Median)
	}
	verdicts := map[string]bool{}
	for _, a := range r.Aims {
		if a.Size == 5000 {
			verdicts[a.Aim] = a.Met
		}
	}
	for what, want := range map[string]bool{
		"CPU per share round trip ≤ 0.80 × HAProxy":               true,
		"private memory per session, idle ≤ 2.5 KB":               false,
		"switch: last miner at the new pool after ≤ 500 ms":       false,
		"CPU per share round trip ≤ 1.25 × that of 1000 sessions": true,
	} {
		if met, ok := verdicts[what]; !ok || met != want {
			t.Errorf("%s: met %t, judged %t, want %t", what, met, ok, want)
		}
	}
}

func TestWrittenResults(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	if err := someResults().write(dir); err != nil {
		t.Fatal(err)
	}
	read := func(name string) string {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(content)
	}
	var r results
	if err := json.Unmarshal([]byte(read("results.json")), &r); err != nil || len(r.Samples) == 0 || len(r.Summary) == 0 {
		t.Errorf("results.json was read with error %v and %d samples", err, len(r.Samples))
	}
	if want := "| CPU per share round trip, µs | 4.0 (50 %) | 6.0 (33 %) |"; !strings.Contains(read("results.md"), want) {
		t.Errorf("results.md has no %q:\n%s", want, read("results.md"))
	}
	for d := xml.NewDecoder(strings.NewReader(read("chart.svg"))); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("chart.svg: %v", err)
		}
	}
}

func TestOptions(t *testing.T) {
	o, err := parseOptions([]string{"-quick", "-sizes", "300, 100,300"})
	if err != nil || !slices.Equal(o.Sizes, []int{100, 300}) || o.Rounds != 1 {
		t.Errorf("unexpected options %+v, %v", o, err)
	}
	for _, args := range [][]string{{"-sizes", "many"}, {"-sizes", "0"}, {"-targets", "squid"}, {"-rounds", "0"}, {"-rate", "0"}, {"more"}} {
		if _, err := parseOptions(args); err == nil {
			t.Errorf("the flags %q were accepted", args)
		}
	}
}
