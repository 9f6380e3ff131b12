package main

import (
	"maps"
	"slices"
	"sync"
	"time"
)

const (
	historyStep = 10 * time.Second
	historyKept = 361 // samples: one hour
)

// historySample is what one step of the charts shows.
type historySample struct {
	At    int64   // Unix seconds
	Span  float64 // seconds that the shares came in
	Coins map[string]historyPoint
}

// historyPoint is one coin at a step, with its shares since the step before.
type historyPoint struct {
	Sessions  int    `json:",omitempty"`
	Submitted uint64 `json:",omitempty"`
	Refused   uint64 `json:",omitempty"`
}

// history keeps the samples of the last hour. Any goroutine may use it.
type history struct {
	mu      sync.Mutex
	samples []historySample // the oldest first
}

func (h *history) add(s historySample) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.samples) == historyKept {
		h.samples = append(h.samples[:0], h.samples[1:]...)
	}
	h.samples = append(h.samples, s)
}

// all returns the samples; they are not changed any more.
func (h *history) all() []historySample {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.samples)
}

func (h *history) empty() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.samples) == 0
}

// restore puts a former process's samples before the own ones.
func (h *history) restore(samples []historySample) {
	h.mu.Lock()
	defer h.mu.Unlock()
	samples = append(slices.Clone(samples), h.samples...)
	h.samples = samples[max(0, len(samples)-historyKept):]
}

// historySeries is the history as the page draws it: for each coin one value
// at each time.
type historySeries struct {
	Times []int64              `json:"times"`
	Coins map[string]coinChart `json:"coins"`
}

type coinChart struct {
	Sessions []int     `json:"sessions"`
	Shares   []float64 `json:"shares_per_minute"`
	Refused  []float64 `json:"refused_per_minute"`
}

func (h *history) series() historySeries {
	samples := h.all()
	out := historySeries{Times: []int64{}, Coins: make(map[string]coinChart)}
	for _, s := range samples {
		out.Times = append(out.Times, s.At)
		for coin := range s.Coins {
			out.Coins[coin] = coinChart{}
		}
	}
	for _, coin := range slices.Sorted(maps.Keys(out.Coins)) {
		c := coinChart{}
		for _, s := range samples {
			p := s.Coins[coin]
			span := max(1, s.Span)
			c.Sessions = append(c.Sessions, p.Sessions)
			c.Shares = append(c.Shares, tenth(float64(p.Submitted)*60/span))
			c.Refused = append(c.Refused, tenth(float64(p.Refused)*60/span))
		}
		out.Coins[coin] = c
	}
	return out
}

// tenth rounds to one digit after the point, for short JSON.
func tenth(v float64) float64 { return float64(int64(v*10+0.5)) / 10 }
