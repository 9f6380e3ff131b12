package main

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang/glog"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

const (
	// assumedGiven is the extranonce2 size that a pool address counts as giving
	// until it has answered: the smallest that is common.
	assumedGiven = 4

	// askWait is how long new miners wait at the start for the addresses that
	// have not answered.
	askWait = 2 * time.Second

	// An address that does not answer is asked again after growing pauses.
	askPauseFirst = time.Second
	askPauseMost  = time.Minute
)

// minerSizes are the extranonce2 sizes a miner may be given, the best first.
// Some miner programs know only 2, 4 and 8 (docs/pools.md); 3 is for pools that
// give 4, so that one byte is left to tell miners apart.
var minerSizes = [...]int{8, 4, 3, 2}

// sizeSurvey finds out which extranonce2 size each pool address gives, if all
// coins have pools that pick the extranonce. New miners get the largest size
// that fits all of them. It owns its goroutines, one for each address and one
// that writes the file; close ends them. The other methods may be called from
// any goroutine, do not block, and do nothing on nil: with pools of other kinds,
// or a configured size, there is no survey.
type sizeSurvey struct {
	manager   *sessionManager
	account   *subAccount // takes part in the dial gate's turns; no miner's
	addresses map[string]*surveyedAddress
	path      string // of the file; empty: sizes are not kept
	onSettled func()

	size    atomic.Int32 // for new miners
	settled atomic.Bool  // new miners need not wait

	ctx     context.Context
	cancel  context.CancelFunc
	asking  sync.WaitGroup
	changed chan struct{}
	written chan struct{} // closed when the file's goroutine has ended
	started bool

	mu        sync.Mutex
	given     map[string]int // by address, as far as known
	unsettled int            // addresses that have not been asked once
}

// surveyedAddress is one address that is asked.
type surveyedAddress struct {
	*poolAddress
	again chan struct{} // has it asked once more
	told  atomic.Bool   // its size is known from it, not only from a former run
}

// newSizeSurvey returns nil if there is nothing to find out.
func newSizeSurvey(m *sessionManager) *sizeSurvey {
	if m.plan.width != poolOnlyWidth || m.config.ExtraNonce2Size > 0 {
		return nil
	}
	v := &sizeSurvey{
		manager: m, account: &subAccount{}, addresses: make(map[string]*surveyedAddress),
		given: make(map[string]int), changed: make(chan struct{}, 1), written: make(chan struct{}), onSettled: m.wakeWaiting,
	}
	v.ctx, v.cancel = context.WithCancel(context.Background())
	for _, p := range m.pools {
		for _, a := range p.addresses {
			v.addresses[a.text] = &surveyedAddress{poolAddress: a, again: make(chan struct{}, 1)}
		}
	}
	v.size.Store(poolOnlySize)
	v.settled.Store(true) // until start
	return v
}

// start begins to ask. The file at path has the sizes of a former run; known,
// if not nil, has those of the process that this one replaces, which has asked
// already. Only what is not in known is asked at once.
func (v *sizeSurvey) start(path string, known map[string]int) {
	if v == nil {
		return
	}
	v.path, v.started = path, true
	kept := known
	if kept == nil {
		kept = readSizes(path)
	}
	v.mu.Lock()
	for text := range v.addresses {
		if size, ok := kept[text]; ok && size >= 0 && size <= stratum.MaxGivenSize {
			v.given[text] = size
		}
	}
	v.decide()
	v.unsettled = 0
	var later []*surveyedAddress
	for text, a := range v.addresses {
		if _, ok := known[text]; ok {
			a.told.Store(true)
			later = append(later, a)
			continue
		}
		v.unsettled++
		v.asking.Go(func() { v.keepAsking(a, true) })
	}
	v.settled.Store(v.unsettled == 0)
	v.mu.Unlock()
	for _, a := range later {
		v.asking.Go(func() { v.keepAsking(a, false) })
	}
	go v.keepFile()
	time.AfterFunc(askWait, v.settle)
}

// close ends the survey. A file system that does not answer is not waited for.
func (v *sizeSurvey) close() {
	if v == nil {
		return
	}
	v.cancel()
	v.asking.Wait()
	if v.started {
		select {
		case <-v.written:
		case <-time.After(time.Second):
		}
	}
}

// settle ends the wait of new miners.
func (v *sizeSurvey) settle() {
	if v.ctx.Err() == nil && v.settled.CompareAndSwap(false, true) {
		v.onSettled()
	}
}

// minersWait says that new miners have to wait for the addresses' answers.
func (v *sizeSurvey) minersWait() bool { return v != nil && !v.settled.Load() }

// saw notes the size that a link was given. Only an answer to the survey makes
// an address's size larger: several servers behind one address may give
// different sizes, and the smallest fits all of them.
func (v *sizeSurvey) saw(a *poolAddress, size int) {
	if v != nil {
		v.note(a.text, size, false)
	}
}

func (v *sizeSurvey) note(text string, size int, asked bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	a := v.addresses[text]
	if a == nil {
		return // of a former configuration
	}
	a.told.Store(true)
	former, known := v.given[text]
	if known && (size == former || size > former && !asked) {
		return
	}
	v.given[text] = size
	if size < poolOnlyWidth+minerSizes[len(minerSizes)-1] {
		glog.Warningf("pool=%s gives extranonce2 size %d: only miners that take mining.set_extranonce can mine there", text, size)
	}
	v.decide()
	select {
	case v.changed <- struct{}{}:
	default:
	}
}

// decide sets the size for new miners. Addresses whose size has no room for any
// miner do not count: a smaller size would not help there.
func (v *sizeSurvey) decide() {
	sizes := make([]int, 0, len(v.addresses))
	for text := range v.addresses {
		size, known := v.given[text]
		if !known {
			size = assumedGiven
		}
		sizes = append(sizes, size)
	}
	size := sizeThatFits(sizes)
	if former := v.size.Swap(int32(size)); int(former) != size {
		glog.Infof("extranonce2 size of new miners: %d, was %d", size, former)
	}
}

// sizeThatFits is the largest size for miners that leaves each pool, by the
// sizes they give, room for the byte that tells miners apart.
func sizeThatFits(given []int) int {
	for _, size := range minerSizes {
		fits := func(g int) bool { return g >= poolOnlyWidth+size }
		hopeless := func(g int) bool { return g < poolOnlyWidth+minerSizes[len(minerSizes)-1] }
		if slices.ContainsFunc(given, fits) && !slices.ContainsFunc(given, func(g int) bool { return !fits(g) && !hopeless(g) }) {
			return size
		}
	}
	return poolOnlySize
}

// state is what is known, for the next process; nil if that is nothing.
func (v *sizeSurvey) state() map[string]int {
	if v == nil {
		return nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	known := make(map[string]int, len(v.given))
	for text, size := range v.given {
		known[text] = size
	}
	return known
}

// back has the addresses that lead to e asked again, as it was out: it may be
// another program now.
func (v *sizeSurvey) back(e *endpoint) {
	if v == nil {
		return
	}
	for _, a := range v.addresses {
		if a.leadsTo(e) {
			a.told.Store(false) // until it has answered again
			select {
			case a.again <- struct{}{}:
			default:
			}
		}
	}
}

// keepAsking asks an address until its size is known, and again when it is back.
func (v *sizeSurvey) keepAsking(a *surveyedAddress, now bool) {
	if now {
		v.askAndNote(a)
		v.askedOnce()
	}
	for pause := askPauseFirst; ; {
		var due <-chan time.Time
		if !a.told.Load() {
			due = time.After(pause/2 + rand.N(pause))
			pause = min(2*pause, askPauseMost)
		}
		select {
		case <-due:
		case <-a.again:
			// One that comes and goes is not asked more often than that.
			select {
			case <-time.After(askPauseFirst/2 + rand.N(askPauseFirst)):
			case <-v.ctx.Done():
			}
		case <-v.ctx.Done():
		}
		if v.ctx.Err() != nil {
			return
		}
		if !v.askAndNote(a) {
			continue
		}
		pause = askPauseFirst
	}
}

// askAndNote reports whether the address has answered.
func (v *sizeSurvey) askAndNote(a *surveyedAddress) bool {
	size, err := v.ask(a.poolAddress)
	switch {
	case v.ctx.Err() != nil:
		return false
	case err != nil:
		glog.V(1).Infof("extranonce2 size not told pool=%s: %v", a.text, err)
		return false
	}
	v.note(a.text, size, true)
	return true
}

// askedOnce notes the outcome of an address's first try. With the last one, the
// wait of new miners is over.
func (v *sizeSurvey) askedOnce() {
	v.mu.Lock()
	v.unsettled--
	last := v.unsettled == 0
	v.mu.Unlock()
	if last {
		v.settle()
	}
}
