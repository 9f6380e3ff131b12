package hashrate

import (
	"encoding/binary"
	"math"
	"time"
)

// Window is a period over which hashrates are averaged.
type Window uint8

const (
	Minute Window = iota
	QuarterHour
	Hour
	Day
	Windows
)

var windowNames = [Windows]string{"1m", "15m", "1h", "24h"}

func (w Window) String() string { return windowNames[w] }

// shape describes how a window is divided into buckets. There is one bucket more than
// fits into the window, because the window rarely begins at the boundary of a bucket.
// The latest bucket is still being filled.
type shape struct {
	length, bucket time.Duration
	first, count   int // the window's buckets among those of all windows
}

var shapes = [Windows]shape{
	Minute:      {time.Minute, 10 * time.Second, 0, 7},
	QuarterHour: {15 * time.Minute, time.Minute, 7, 16},
	Hour:        {time.Hour, 5 * time.Minute, 23, 13},
	Day:         {24 * time.Hour, time.Hour, 36, 25},
}

const (
	bucketsOfAll = 36 + 25
	bucketsLost  = 7 // the same as for Minute
)

// Length returns how long the window is.
func (w Window) Length() time.Duration { return shapes[w].length }

// Averages computes hashrates from a [Counter]'s totals, for each window that ends
// now. They are right from the first share on: while a window is longer than the
// time since the beginning, that time is used instead.
//
// Its owner calls Advance every few seconds, and each hashrate is that at the last
// call. All Averages use the same clock. It may begin at any moment, runs evenly
// and continues over upgrades. An Averages takes 328 bytes.
type Averages struct {
	began      time.Duration // by the common clock
	now        time.Duration
	unknown    time.Duration // when the last share of unknown difficulty was counted
	hasUnknown bool          // there was a share of unknown difficulty
	last       counted
	work       [bucketsOfAll]float32
	lost       [bucketsLost]float32 // work of refused shares, for the last minute
}

// counted holds the parts of a counter's totals that Averages uses, as of the last
// call of Advance.
type counted struct {
	work, lost float64
	unknown    uint64
}

func (t *Totals) counted() counted { return counted{t.Work, t.LostWork(), t.Unknown} }

// NewAverages returns averages that begin at now. They do not include the work that
// is already in the totals.
func NewAverages(now time.Duration, t Totals) *Averages {
	return &Averages{began: now, now: now, last: t.counted()}
}

// Advance records the totals at now. The work since the last call is distributed
// evenly over the time since that call. If now is not later than at the last call, the
// work is added to the latest bucket.
func (a *Averages) Advance(now time.Duration, t Totals) {
	from := a.now
	if now < from {
		now = from
	}
	before, after := a.last, t.counted()
	if after.unknown > before.unknown {
		a.unknown, a.hasUnknown = now, true
	}
	a.last, a.now = after, now
	for _, s := range shapes {
		spread(a.work[s.first:][:s.count], s.bucket, from, now, after.work-before.work)
	}
	spread(a.lost[:], shapes[Minute].bucket, from, now, after.lost-before.lost)
}

// spread adds work that was done evenly between from and to. The buckets are a
// ring: the time from n*width on is in bucket n modulo their number.
func spread(buckets []float32, width, from, to time.Duration, work float64) {
	if work < 0 || math.IsNaN(work) {
		work = 0
	}
	last, count := int64(to/width), int64(len(buckets))
	if from == to {
		buckets[last%count] += float32(work)
		return
	}
	for n := max(int64(from/width), last-count+1); n <= last; n++ {
		begin, end := time.Duration(n)*width, time.Duration(n+1)*width
		at := n % count
		if begin > from {
			buckets[at] = 0 // this bucket was last used for an earlier time
		}
		part := min(end, to) - max(begin, from)
		buckets[at] += float32(work * float64(part) / float64(to-from))
	}
}

// sum returns the work of the period of the given length that ends now, or of the time
// since began if that is shorter. The bucket in which the period begins is counted in
// proportion.
func sum(buckets []float32, width, length, began, now time.Duration) (work float64) {
	from := max(began, now-length)
	last, count := int64(now/width), int64(len(buckets))
	for n := max(int64(from/width), last-count+1); n <= last; n++ {
		begin, end := max(began, time.Duration(n)*width), min(time.Duration(n+1)*width, now)
		part := 1.0
		if begin < from && end > begin {
			part = float64(end-from) / float64(end-begin)
		}
		work += float64(buckets[n%count]) * part
	}
	return work
}

// Rate returns the hashrate over a window.
func (a *Averages) Rate(w Window) Rate {
	s := shapes[w]
	work := sum(a.work[s.first:][:s.count], s.bucket, s.length, a.began, a.now)
	unknown := a.hasUnknown && a.unknown > a.now-s.length
	return rate(work*hashesPerUnit, min(s.length, a.now-a.began).Seconds(), unknown)
}

// LostInMinute returns the work of refused shares in the last minute, in units of
// difficulty.
func (a *Averages) LostInMinute() float64 {
	return sum(a.lost[:], shapes[Minute].bucket, time.Minute, a.began, a.now)
}

// LostBefore returns the work of refused shares, in units of difficulty, in the minute
// before now, when the counter's totals are t. period is a minute, or less if the
// averages are younger. LostBefore changes nothing, so that all averages stay at the
// same time.
func (a *Averages) LostBefore(now time.Duration, t Totals) (work float64, period time.Duration) {
	then := *a
	then.Advance(now, t)
	return then.LostInMinute(), min(time.Minute, then.now-then.began)
}

// Absorb adds the past of other averages, which must not be used afterwards. Both must
// have been advanced to the same time. So the sum of all sub-accounts keeps the work of
// a sub-account that has left.
func (a *Averages) Absorb(other *Averages) {
	for i := range a.work { // the same bucket stands for the same time in both
		a.work[i] += other.work[i]
	}
	for i := range a.lost {
		a.lost[i] += other.lost[i]
	}
	a.began = min(a.began, other.began)
	if other.hasUnknown && (!a.hasUnknown || other.unknown > a.unknown) {
		a.unknown, a.hasUnknown = other.unknown, true
	}
}

// AveragesState is an Averages in a state file. Its times are of the common clock.
type AveragesState struct {
	Began, Now time.Duration
	Unknown    *time.Duration `json:",omitempty"`
	Buckets    []byte         // float32, little-endian
}

// State describes the averages for the next process.
func (a *Averages) State() AveragesState {
	st := AveragesState{Began: a.began, Now: a.now}
	if a.hasUnknown {
		st.Unknown = &a.unknown
	}
	for _, v := range a.work {
		st.Buckets = binary.LittleEndian.AppendUint32(st.Buckets, math.Float32bits(v))
	}
	for _, v := range a.lost {
		st.Buckets = binary.LittleEndian.AppendUint32(st.Buckets, math.Float32bits(v))
	}
	return st
}

// Averages restores the averages that a state file describes. t has the totals of
// the new process's counter. If the state is invalid, the averages begin at now.
func (st *AveragesState) Averages(now time.Duration, t Totals) *Averages {
	a := NewAverages(now, t)
	if len(st.Buckets) != 4*(bucketsOfAll+bucketsLost) || st.Began < 0 || st.Began > st.Now || st.Now > now {
		return a
	}
	read := func(into []float32, b []byte) bool {
		for i := range into {
			v := math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
			if !(v >= 0 && v <= math.MaxFloat32) {
				return false
			}
			into[i] = v
		}
		return true
	}
	saved := Averages{began: st.Began, now: st.Now, last: t.counted()}
	if !read(saved.work[:], st.Buckets) || !read(saved.lost[:], st.Buckets[4*bucketsOfAll:]) {
		return a
	}
	if st.Unknown != nil {
		saved.unknown, saved.hasUnknown = min(*st.Unknown, st.Now), true
	}
	*a = saved
	return a
}
