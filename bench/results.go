package main

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// figure is one kind of value that is measured.
type figure struct {
	Key    string
	Name   string // in the report
	Unit   string
	Ratio  bool // whether the report compares it with HAProxy
	Digits int  // after the decimal point
}

var figures = []figure{
	{"cpu_share", "CPU per share round trip", "µs", true, 1},
	{"share_rate", "shares answered per second meanwhile", "", false, 0},
	{"cpu_job", "CPU per job broadcast and session", "µs", true, 1},
	{"cpu_connect", "CPU per connect with Stratum handshake", "µs", true, 0},
	{"cpu_handshake", "CPU per TLS handshake alone", "µs", true, 0},
	{"cpu_request", "CPU per TLS connection with one request", "µs", true, 0},
	{"cpu_switch", "CPU per switched session", "µs", false, 0},
	{"move_first", "switch: first miner at the new pool after", "ms", false, 0},
	{"move_last", "switch: last miner at the new pool after", "ms", false, 0},
	{"mem_base", "private memory without sessions", "KB", false, 0},
	{"mem_idle", "private memory per session, idle", "KB", true, 2},
	{"mem_load", "private memory per session, after load", "KB", true, 2},
	{"mem_switched", "private memory per session, after all switches", "KB", false, 2},
	{"lat_mean", "share latency, mean", "ms", false, 3},
	{"lat_p50", "share latency p50", "ms", false, 3},
	{"lat_p99", "share latency p99", "ms", false, 3},
	{"lat_p999", "share latency p99.9", "ms", false, 3},
	{"added_mean", "latency added, mean", "ms", false, 3},
	{"added_p50", "latency added, p50", "ms", false, 3},
	{"added_p99", "latency added, p99", "ms", false, 3},
	{"added_p999", "latency added, p99.9", "ms", false, 3},
	{"limit", "throughput limit, shares per second", "", true, 0},
	{"load_shares", "shares submitted during switches", "", false, 0},
	{"load_wrong", "shares answered wrongly during switches", "", false, 0},
	{"load_never", "shares never answered during switches", "", false, 0},
	{"upgrade_pause", "upgrade: pause", "ms", false, 0},
	{"upgrade_longest", "upgrade: longest share latency", "ms", false, 0},
	{"upgrade_lost", "upgrade: sessions lost", "", false, 0},
	{"upgrade_refused", "upgrade: dials refused", "", false, 0},
}

func figureOf(key string) figure {
	for _, f := range figures {
		if f.Key == key {
			return f
		}
	}
	return figure{Key: key, Name: key}
}

// sample is one figure that was measured once.
type sample struct {
	Size   int     `json:"size"`
	Round  int     `json:"round"`
	Target string  `json:"target"`
	Figure string  `json:"figure"`
	Value  float64 `json:"value"`
}

// machine describes the machine and the programs, on which the figures depend.
type machine struct {
	Cores       int      `json:"cores"`
	CPU         string   `json:"cpu"`
	Kernel      string   `json:"kernel"`
	MemoryMB    int      `json:"memory_mb"`
	Descriptors int      `json:"descriptors"`
	Programs    []string `json:"programs"`
	// Load is the load average before the first round, so the bench has no part in it.
	Load string `json:"load_average"`
}

// results has everything that a run of the bench has found.
type results struct {
	Date    time.Time `json:"date"`
	Took    string    `json:"took"`
	Machine machine   `json:"machine"`
	Options options   `json:"options"`
	// Remarks describe what did not go as planned.
	Remarks []string `json:"remarks"`
	Summary []median `json:"summary"`
	Aims    []aim    `json:"aims"`
	Samples []sample `json:"samples"`
}

// median is the outcome of all rounds for one figure.
type median struct {
	Size   int     `json:"size"`
	Target string  `json:"target"`
	Figure string  `json:"figure"`
	Unit   string  `json:"unit,omitempty"`
	Median float64 `json:"median"`
	Least  float64 `json:"least"`
	Most   float64 `json:"most"`
	// Spread is the difference between Most and Least, in percent of the median.
	Spread float64 `json:"spread_percent"`
	// OfHAProxy and OfFloor are ratios to the medians of these targets. They are 0
	// where there is no ratio.
	OfHAProxy float64 `json:"of_haproxy,omitempty"`
	OfFloor   float64 `json:"of_floor,omitempty"`
}

func (r *results) add(size, round int, target, figure string, value float64) {
	r.Samples = append(r.Samples, sample{size, round, target, figure, value})
}

// addLatencies computes how much latency each proxy added to that of a direct
// connection in a round.
func (r *results) addLatencies(size, round int) {
	find := func(target, figure string) (float64, bool) {
		for _, s := range r.Samples {
			if s.Size == size && s.Round == round && s.Target == target && s.Figure == figure {
				return s.Value, true
			}
		}
		return 0, false
	}
	for _, target := range allTargets {
		for _, quantile := range []string{"mean", "p50", "p99", "p999"} {
			direct, ok := find(targetDirect, "lat_"+quantile)
			through, also := find(target, "lat_"+quantile)
			if ok && also && target != targetDirect {
				r.add(size, round, target, "added_"+quantile, through-direct)
			}
		}
	}
}

// sizes returns the sizes that were measured, in order.
func (r *results) sizes() (sizes []int) {
	for _, s := range r.Samples {
		sizes = append(sizes, s.Size)
	}
	slices.Sort(sizes)
	return slices.Compact(sizes)
}

// summarise computes Summary and Aims from Samples.
func (r *results) summarise() {
	r.Summary, r.Aims = nil, nil
	for _, size := range r.sizes() {
		for _, f := range figures {
			for _, target := range allTargets {
				if m, ok := r.medianOf(size, target, f.Key); ok {
					r.Summary = append(r.Summary, m)
				}
			}
		}
	}
	r.Aims = judge(r)
}

func (r *results) medianOf(size int, target, figure string) (median, bool) {
	values := r.values(size, target, figure)
	if len(values) == 0 {
		return median{}, false
	}
	f := figureOf(figure)
	m := median{Size: size, Target: target, Figure: figure, Unit: f.Unit, Median: middle(values), Least: slices.Min(values), Most: slices.Max(values)}
	if m.Median != 0 {
		m.Spread = math.Round((m.Most - m.Least) / math.Abs(m.Median) * 100)
	}
	if f.Ratio {
		rival := targetHAProxy
		if slices.Contains(tlsTargets, target) {
			rival = targetHAProxyTLS
		}
		m.OfHAProxy = ratio(m.Median, middle(r.values(size, rival, figure)))
		m.OfFloor = ratio(m.Median, middle(r.values(size, targetFloor, figure)))
	}
	return m, true
}

func (r *results) values(size int, target, figure string) (values []float64) {
	for _, s := range r.Samples {
		if s.Size == size && s.Target == target && s.Figure == figure {
			values = append(values, s.Value)
		}
	}
	return values
}

// middle returns the median. It is NaN if there are no values.
func middle(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	half := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[half]
	}
	return (sorted[half-1] + sorted[half]) / 2
}

// ratio returns a/b with three decimals, or 0 if a value is missing or b is not positive.
func ratio(a, b float64) float64 {
	if math.IsNaN(a) || math.IsNaN(b) || b <= 0 {
		return 0
	}
	return math.Round(a/b*1000) / 1000
}

// write writes the results as table, JSON and chart to files in dir.
func (r *results) write(dir string) error {
	r.summarise()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	content, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	for name, content := range map[string]string{
		"results.json": string(content) + "\n",
		"results.md":   r.markdown(),
		"chart.svg":    strings.TrimSpace(chart(r)) + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}
