package stratumtest

import (
	"maps"
	"strings"
	"time"
)

// Treatment is a way in which a pool misbehaves towards some of its workers, regardless
// of its modes.
type Treatment string

// These are the treatments of workers.
const (
	TreatRefuseAndClose Treatment = "refuse and close" // answers authorize with error 24 and closes
	TreatClose          Treatment = "close"            // closes instead of answering authorize
	TreatHang           Treatment = "hang"             // never answers authorize
	TreatFlap           Treatment = "flap"             // accepts the worker, sends a job and closes shortly afterwards
	TreatSlowly         Treatment = "slowly"           // answers authorize only after slowlyAfter
)

const (
	flapAfter   = 100 * time.Millisecond
	slowlyAfter = 3 * time.Second
)

// SetTreatments replaces all treatments. The keys are prefixes of worker names, which are
// compared without the coin suffix of the sub-account. The longest matching prefix
// applies, and an empty prefix matches all workers. Workers that are already authorized
// are not affected.
func (p *Pool) SetTreatments(by map[string]Treatment) {
	by = maps.Clone(by)
	p.treatments.Store(&by)
}

// treatment returns the treatment of a worker, or "" if the worker is treated normally.
func (p *Pool) treatment(name string) Treatment {
	by := p.treatments.Load()
	if by == nil {
		return ""
	}
	account, worker, _ := strings.Cut(name, ".")
	account, _, _ = strings.Cut(account, "_")
	name = account + "." + worker
	var found Treatment
	length := -1
	for beginning, treatment := range *by {
		if len(beginning) > length && strings.HasPrefix(name, beginning) {
			found, length = treatment, len(beginning)
		}
	}
	return found
}

// endSoon closes the connection after flapAfter without blocking the caller.
func (c *poolConn) endSoon() {
	c.p.wg.Add(1)
	go func() {
		defer c.p.wg.Done()
		if c.pause(flapAfter) {
			c.close()
		}
	}()
}

// awaitWritten waits until all pending bytes have been passed to the kernel. If the
// connection was closed earlier, the other side might not receive the refusal.
func (c *poolConn) awaitWritten() {
	for {
		c.mu.Lock()
		flushing := c.flushing
		c.mu.Unlock()
		if !flushing || !c.pause(time.Millisecond) {
			return
		}
	}
}
