package main

import (
	"fmt"
	"math"
)

// referenceSize is the number of sessions for which the aims are stated.
const referenceSize = 5000

// aim is a target for one figure and whether it is met.
type aim struct {
	Aim   string `json:"aim"`
	Size  int    `json:"size"`
	Found string `json:"found"`
	Met   bool   `json:"met"`
}

// judge compares the medians with the aims. It returns no line for a figure that was
// not measured.
func judge(r *results) []aim {
	var aims []aim
	add := func(size int, met bool, what, found string, args ...any) {
		aims = append(aims, aim{what, size, fmt.Sprintf(found, args...), met})
	}
	for _, size := range r.sizes() {
		get := func(figure string) float64 { return middle(r.values(size, targetSwitcher, figure)) }
		most := func(figure string, limit float64) {
			f := figureOf(figure)
			if v := get(figure); !math.IsNaN(v) {
				add(size, v <= limit, fmt.Sprintf("%s ≤ %g %s", f.Name, limit, f.Unit), "%.*f %s", f.Digits, v, f.Unit)
			}
		}
		ofHAProxy := func(figure string, limit float64) {
			v := ratio(get(figure), middle(r.values(size, targetHAProxy, figure)))
			if v > 0 {
				add(size, v <= limit, fmt.Sprintf("%s ≤ %.2f × HAProxy", figureOf(figure).Name, limit), "%.2f ×", v)
			}
		}
		none := func(figure string) {
			if values := r.values(size, targetSwitcher, figure); len(values) > 0 {
				sum := 0.0
				for _, v := range values {
					sum += v
				}
				add(size, sum == 0, figureOf(figure).Name+": 0 in all rounds", "%.0f", sum)
			}
		}
		ofHAProxy("cpu_share", 0.80)
		ofHAProxy("cpu_job", 0.75)
		most("mem_idle", 2.5)
		ofHAProxy("mem_idle", 0.75)
		if idle, switched := get("mem_idle"), get("mem_switched"); !math.IsNaN(switched) {
			add(size, switched <= idle*unchanged, "memory per session unchanged by switches (≤ 1.1 × idle)", "%.2f KB after %.2f KB", switched, idle)
		}
		most("cpu_connect", 200)
		most("cpu_switch", 180)
		// The aim is stated for 5,000 miners. More miners take longer.
		if size <= referenceSize {
			most("move_last", 500)
		}
		none("load_wrong")
		none("load_never")
		none("upgrade_lost")
		none("upgrade_refused")
		if size <= 2000 { // the aim is stated for 2,000 sessions
			most("upgrade_pause", 100)
		}
		for _, a := range []struct {
			figure string
			limit  float64
		}{{"cpu_share", 0.9}, {"cpu_handshake", 0.9}, {"cpu_request", 0.9}, {"mem_idle", 1.5}} {
			if m, ok := r.medianOf(size, targetSwitcherTLS, a.figure); ok && m.OfHAProxy > 0 {
				add(size, m.OfHAProxy <= a.limit, fmt.Sprintf("TLS: %s ≤ %.1f × HAProxy in front of a switcher", figureOf(a.figure).Name, a.limit), "%.2f ×", m.OfHAProxy)
			}
		}
	}
	return append(aims, judgeGrowth(r)...)
}

const (
	// unchanged is the factor by which a figure may rise that should stay the same.
	unchanged = 1.1
	// linear is the factor by which a cost per session may rise from the smallest to
	// the largest size. It is above 1 because more sessions fit less well into caches.
	linear = 1.25
)

// judgeGrowth compares the costs per share, job and session at the largest size with
// those at the smallest, because they should not depend on the number of sessions.
func judgeGrowth(r *results) []aim {
	var aims []aim
	for _, figure := range []string{"cpu_share", "cpu_job", "cpu_connect", "cpu_switch", "mem_idle"} {
		var first, last sizeValue
		for _, size := range r.sizes() {
			v := middle(r.values(size, targetSwitcher, figure))
			if math.IsNaN(v) {
				continue
			}
			last = sizeValue{size, v}
			if first.size == 0 {
				first = last
			}
		}
		if first.size == last.size {
			continue
		}
		growth := ratio(last.value, first.value)
		aims = append(aims, aim{
			Aim:   fmt.Sprintf("%s ≤ %.2f × that of %d sessions", figureOf(figure).Name, linear, first.size),
			Size:  last.size,
			Found: fmt.Sprintf("%.2f ×", growth),
			Met:   growth > 0 && growth <= linear,
		})
	}
	return aims
}

type sizeValue struct {
	size  int
	value float64
}
