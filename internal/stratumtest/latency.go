package stratumtest

import (
	"math"
	"sync/atomic"
	"time"
)

// Latency is a histogram of durations from 1 µs to over an hour. Each bucket is 9 %
// wider than the one before. Any goroutine may use it.
type Latency struct {
	buckets [256]atomic.Uint64
	sum     atomic.Int64
}

func (l *Latency) add(d time.Duration) {
	l.sum.Add(int64(d))
	us := float64(d) / float64(time.Microsecond)
	at := 0
	if us > 1 {
		at = min(len(l.buckets)-1, int(8*math.Log2(us)))
	}
	l.buckets[at].Add(1)
}

// Count returns the number of durations.
func (l *Latency) Count() (n uint64) {
	for i := range l.buckets {
		n += l.buckets[i].Load()
	}
	return n
}

// Mean returns the mean duration.
func (l *Latency) Mean() time.Duration {
	n := l.Count()
	if n == 0 {
		return 0
	}
	return time.Duration(l.sum.Load() / int64(n))
}

// Quantile returns the duration that a fraction q of all durations does not exceed,
// to within 9 %.
func (l *Latency) Quantile(q float64) time.Duration {
	want := uint64(math.Ceil(q * float64(l.Count())))
	var n uint64
	for i := range l.buckets {
		n += l.buckets[i].Load()
		if n >= want && n > 0 {
			return time.Duration(math.Exp2(float64(i+1)/8) * float64(time.Microsecond))
		}
	}
	return 0
}

// Reset removes all durations.
func (l *Latency) Reset() {
	for i := range l.buckets {
		l.buckets[i].Store(0)
	}
	l.sum.Store(0)
}
