package stratumtest

import (
	"maps"
	"strings"
	"time"
)

// Treatment is how a pool treats some of its workers, whatever its modes are.
type Treatment string

// Treatments of workers.
const (
	TreatRefuseAndClose Treatment = "refuse and close" // answers authorize with error 24 and closes
	TreatClose          Treatment = "close"            // closes instead of answering authorize
	TreatHang           Treatment = "hang"             // never answers authorize
	TreatFlap           Treatment = "flap"             // authorizes, sends a job, and closes soon
	TreatSlowly         Treatment = "slowly"           // takes its time to answer authorize
)

const (
	flapAfter   = 100 * time.Millisecond
	slowlyAfter = 3 * time.Second
)

// SetTreatments replaces all treatments. The keys are prefixes of workers' names without
// the coin's suffix of the account. The longest prefix that matches is used, and an empty
// one matches all workers. Connections that are already authorized are not affected.
func (p *Pool) SetTreatments(by map[string]Treatment) {
	by = maps.Clone(by)
	p.treatments.Store(&by)
}

// treatment returns the treatment of a worker, or "" for the usual one.
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

// endSoon closes the connection after a moment.
func (c *poolConn) endSoon() {
	c.p.wg.Add(1)
	go func() {
		defer c.p.wg.Done()
		if c.pause(flapAfter) {
			c.close()
		}
	}()
}

// awaitWritten waits until the kernel has all bytes that were sent, because closing the
// connection earlier would be another failure than intended.
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
