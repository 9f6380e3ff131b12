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
	// assumedGiven is the extranonce2 size (in bytes) that is assumed for a pool address
	// that has not answered. It is the smallest size that is common among pools.
	assumedGiven = 4

	// askWait is how long after the start new miners wait for addresses that have not
	// answered yet.
	askWait = 2 * time.Second

	// The pauses after which an address that does not answer is asked again grow
	// from askPauseFirst to askPauseMost.
	askPauseFirst = time.Second
	askPauseMost  = time.Minute

	// smallerSizeKept is how long the size of an address counts although the address
	// gives more to miners' links. If it gives the smaller size to none of them in this
	// time, it is asked again.
	smallerSizeKept = 10 * time.Minute
)

// minerSizes are the extranonce2 sizes that a miner may be given, the best one first.
// Some miner programs support only 2, 4 and 8 (docs/pools.md). 3 is for pools that give
// 4, because one of their bytes is needed to tell miners apart.
var minerSizes = [...]int{8, 4, 3, 2}

// sizeSurvey finds out which extranonce2 size each pool address gives. New miners
// get the largest size that fits all addresses. There is a survey only if all
// coins have pools that pick the extranonce and no size is configured; otherwise
// it is nil, and its methods do nothing.
//
// The survey owns its goroutines: one for each address and one that writes the
// file. close ends them. The other methods may be called from any goroutine and
// do not block.
type sizeSurvey struct {
	manager   *sessionManager
	account   *subAccount // represents the survey at the dial gate; no miner belongs to it
	addresses map[string]*surveyedAddress
	path      string // of the file; empty if sizes are not kept
	onSettled func()

	size    atomic.Int32 // the extranonce2 size of new miners
	settled atomic.Bool  // whether new miners no longer wait for the survey

	ctx     context.Context
	cancel  context.CancelFunc
	asking  sync.WaitGroup
	changed chan struct{}
	written chan struct{} // closed when keepFile has returned
	started bool

	mu        sync.Mutex
	given     map[string]int // the known sizes by address
	unsettled int            // addresses that are being asked for the first time
}

// surveyedAddress is one address that is asked.
type surveyedAddress struct {
	*poolAddress
	askAgain chan struct{} // makes the survey ask the address again
	answered atomic.Bool   // the size is from the address itself, not only from a former run

	// confirmed is when the address gave its size, or less, for the last time, or was
	// asked again because it gives more. sizeSurvey.mu guards it.
	confirmed time.Time
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
			v.addresses[a.text] = &surveyedAddress{poolAddress: a, askAgain: make(chan struct{}, 1)}
		}
	}
	v.size.Store(poolOnlySize)
	v.settled.Store(true) // start changes this if it has to ask
	return v
}

// start begins to ask. The file at path has the sizes of a former run. After an
// upgrade, known has the sizes that the former process had found; addresses that
// are missing there are asked at once. At a plain start, known is nil.
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
			a.answered.Store(true)
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

// close ends the survey. It waits at most a second for the file system.
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

// minersWait reports whether new miners have to wait for the addresses' answers.
func (v *sizeSurvey) minersWait() bool { return v != nil && !v.settled.Load() }

// saw records the size that the pool at an address gave a link. It can only make the
// address's size smaller, because several servers behind one address may give different
// sizes and the smallest fits all of them. Only an answer to the survey can make it
// larger. Links that are given more for a long time cause the survey to ask, because the
// pool may have been restarted without being out.
func (v *sizeSurvey) saw(a *poolAddress, size int) {
	if v != nil {
		v.note(a.text, size, false)
	}
}

// note records the size that an address gave. asked is true for an answer to the survey.
func (v *sizeSurvey) note(text string, size int, asked bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	a := v.addresses[text]
	if a == nil {
		return // the address belongs to a former configuration
	}
	a.answered.Store(true)
	former, known := v.given[text]
	larger := known && size > former && !asked
	if larger && time.Since(a.confirmed) < smallerSizeKept {
		return
	}
	a.confirmed = time.Now()
	if larger {
		a.ask()
	}
	if known && size == former || larger {
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

// decide sets the size for new miners. It ignores addresses that give too few bytes for
// any size of a miner. v.mu is held.
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

// sizeThatFits returns the largest size for miners with which each of the given
// sizes still has room for the byte that tells miners apart.
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

// state returns the known sizes for the next process, or nil without a survey.
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

// back asks the addresses that lead to e again, because e was taken out and another
// program may serve it now.
func (v *sizeSurvey) back(e *endpoint) {
	if v == nil {
		return
	}
	for _, a := range v.addresses {
		if a.leadsTo(e) {
			a.answered.Store(false)
			a.ask()
		}
	}
}

// ask makes keepAsking ask the address again.
func (a *surveyedAddress) ask() {
	select {
	case a.askAgain <- struct{}{}:
	default:
	}
}

// keepAsking asks an address until its size is known, and again each time when it is back
// in use. Unless now is true, the first question waits until one of these is needed.
func (v *sizeSurvey) keepAsking(a *surveyedAddress, now bool) {
	if now {
		v.askAndNote(a)
		v.askedOnce()
	}
	for pause := askPauseFirst; ; {
		var due <-chan time.Time
		if !a.answered.Load() {
			due = time.After(pause/2 + rand.N(pause))
			pause = min(2*pause, askPauseMost)
		}
		select {
		case <-due:
		case <-a.askAgain:
			// This pause bounds the questions to an address that comes and goes.
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

// askAndNote asks an address once and records its size. It reports whether the address
// has answered.
func (v *sizeSurvey) askAndNote(a *surveyedAddress) bool {
	size, err := v.ask(a.poolAddress)
	switch {
	case v.ctx.Err() != nil:
		return false
	case err != nil:
		glog.V(1).Infof("extranonce2 size not known pool=%s: %v", a.text, err)
		return false
	}
	v.note(a.text, size, true)
	return true
}

// askedOnce records that an address was asked for the first time, with or without an
// answer. After the last address, new miners no longer have to wait.
func (v *sizeSurvey) askedOnce() {
	v.mu.Lock()
	v.unsettled--
	last := v.unsettled == 0
	v.mu.Unlock()
	if last {
		v.settle()
	}
}
