package hashrate

import (
	"encoding/binary"
	"math"
	"time"
)

const (
	// A chart covers a day with ChartPoints steps of ChartStep.
	ChartStep   = 5 * time.Minute
	ChartPoints = 288
)

// Chart holds one coin's hashrate of the last 24 hours. It is advanced together
// with the coin's [Averages], with the same clock, and takes 1.2 KB.
type Chart struct {
	began, now time.Duration
	work       float64 // total work as of the last call of Advance
	buckets    [ChartPoints + 1]float32
}

// NewChart returns a chart that begins at now.
func NewChart(now time.Duration, t Totals) *Chart {
	return &Chart{began: now, now: now, work: t.Work}
}

// Advance records the totals at now.
func (c *Chart) Advance(now time.Duration, t Totals) {
	now = max(now, c.now)
	spread(c.buckets[:], ChartStep, c.now, now, t.Work-c.work)
	c.now, c.work = now, t.Work
}

// Points returns the hashrates of the steps in hashes per second, the oldest first.
// The last step is not complete yet; end is the time until which it has data.
func (c *Chart) Points() (perSecond []float64, end time.Duration) {
	last := int64(c.now / ChartStep)
	for n := max(last-ChartPoints, int64(c.began/ChartStep)); n <= last; n++ {
		from, to := max(c.began, time.Duration(n)*ChartStep), min(c.now, time.Duration(n+1)*ChartStep)
		if to <= from {
			continue
		}
		perSecond = append(perSecond, float64(c.buckets[n%(ChartPoints+1)])*hashesPerUnit/(to-from).Seconds())
	}
	return perSecond, c.now
}

// ChartState is a Chart in a state file.
type ChartState struct {
	Began, Now time.Duration
	Buckets    []byte // float32, little-endian
}

// State describes the chart for the next process.
func (c *Chart) State() ChartState {
	st := ChartState{Began: c.began, Now: c.now}
	for _, v := range c.buckets {
		st.Buckets = binary.LittleEndian.AppendUint32(st.Buckets, math.Float32bits(v))
	}
	return st
}

// Chart restores the chart that a state file describes. If the state is invalid,
// the chart is empty and begins at now.
func (st *ChartState) Chart(now time.Duration, t Totals) *Chart {
	c := NewChart(now, t)
	if len(st.Buckets) != 4*len(c.buckets) || st.Began < 0 || st.Began > st.Now || st.Now > now {
		return c
	}
	saved := Chart{began: st.Began, now: st.Now, work: t.Work}
	for i := range saved.buckets {
		v := math.Float32frombits(binary.LittleEndian.Uint32(st.Buckets[4*i:]))
		if !(v >= 0 && v <= math.MaxFloat32) {
			return c
		}
		saved.buckets[i] = v
	}
	*c = saved
	return c
}
