package journal

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// A sample is taken every HistoryStep, and HistoryKept of them are kept, which is one
// hour.
const (
	HistoryStep = 10 * time.Second
	HistoryKept = 361
)

// Sample has the values of one step of the charts.
type Sample struct {
	At    int64   // Unix seconds
	Span  float64 // seconds since the previous sample
	Coins map[string]Point
}

// Point has the values of one coin at a step. Its shares are those since the previous
// step.
type Point struct {
	Sessions  int    `json:",omitempty"`
	Submitted uint64 `json:",omitempty"`
	Refused   uint64 `json:",omitempty"`

	// Work is the work of the accepted shares, in hashes. Unknown counts the shares
	// whose work is not known.
	Work    float64 `json:",omitempty"`
	Unknown uint64  `json:",omitempty"`
}

// hashrate returns the coin's hashrate, or nil if it is unknown.
func (p Point) hashrate(span float64) *float64 {
	if p.Work == 0 && p.Unknown > 0 {
		return nil
	}
	rate := p.Work / span
	return &rate
}

// History keeps the samples of the last hour. Any goroutine may use it.
type History struct {
	mu      sync.Mutex
	samples []Sample // the oldest first
}

// Add appends a sample, which must not be changed afterwards.
func (h *History) Add(s Sample) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.samples) == HistoryKept {
		h.samples = append(h.samples[:0], h.samples[1:]...)
	}
	h.samples = append(h.samples, s)
}

// All returns the samples, the oldest first.
func (h *History) All() []Sample {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.samples)
}

// Empty reports whether there is no sample.
func (h *History) Empty() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.samples) == 0
}

// Restore puts a former process's samples before those of this one.
func (h *History) Restore(samples []Sample) {
	h.mu.Lock()
	defer h.mu.Unlock()
	samples = append(slices.Clone(samples), h.samples...)
	h.samples = samples[max(0, len(samples)-HistoryKept):]
}

// Series is the history in the form that the status page needs, with one value for each
// coin and time.
type Series struct {
	Times []int64          `json:"times"`
	Coins map[string]Chart `json:"coins"`
}

// Chart has the values of one coin.
type Chart struct {
	Sessions []int      `json:"sessions"`
	Shares   []float64  `json:"shares_per_minute"`
	Refused  []float64  `json:"refused_per_minute"`
	Hashrate []*float64 `json:"hashrate"` // hashes per second, or null if unknown
}

// Series returns the history in the form that the status page needs.
func (h *History) Series() Series {
	samples := h.All()
	out := Series{Times: []int64{}, Coins: make(map[string]Chart)}
	for _, s := range samples {
		out.Times = append(out.Times, s.At)
		for coin := range s.Coins {
			out.Coins[coin] = Chart{}
		}
	}
	for _, coin := range slices.Sorted(maps.Keys(out.Coins)) {
		c := Chart{}
		for _, s := range samples {
			p := s.Coins[coin]
			span := max(1, s.Span)
			c.Sessions = append(c.Sessions, p.Sessions)
			c.Shares = append(c.Shares, tenth(float64(p.Submitted)*60/span))
			c.Refused = append(c.Refused, tenth(float64(p.Refused)*60/span))
			c.Hashrate = append(c.Hashrate, p.hashrate(span))
		}
		out.Coins[coin] = c
	}
	return out
}

// tenth rounds to one decimal place, which keeps the JSON short.
func tenth(v float64) float64 { return float64(int64(v*10+0.5)) / 10 }
