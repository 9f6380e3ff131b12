package stratumtest

import (
	"encoding/hex"
	"fmt"
)

// OwnExtranonce makes a pool pick its miners' extranonce itself, as all pools do
// that are not built for a switcher. If subscribe then has an extranonce as
// parameter, that is a fault.
type OwnExtranonce struct {
	Len  int // bytes of extranonce1, 0-8
	Size int // bytes of extranonce2
}

// usedExtranonce is what a connection uses for jobs from a sequence number on.
type usedExtranonce struct {
	from uint64
	en1  []byte
	size int
}

// ownExtranonce1 returns the n-th extranonce1 of a pool that picks it.
func (o *OwnExtranonce) extranonce1(n uint32) []byte {
	text := fmt.Sprintf("%08x%08x", n*2654435761, n)
	b, _ := hex.DecodeString(text[16-2*o.Len:])
	return b
}

// extranonceFor returns the extranonce with which a share of a job is checked.
func (c *poolConn) extranonceFor(seq uint64) (en1 []byte, size int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	en1, size = c.en1, c.en2Size
	for _, later := range c.laterExtranonces {
		if seq >= later.from {
			en1, size = later.en1, later.size
		}
	}
	return en1, size
}

// RotateExtranonce gives each connection another extranonce1 and this size of
// extranonce2, which take effect with the next job, and sends that job.
func (p *Pool) RotateExtranonce(size int, clean bool) {
	p.jobs.mu.RLock()
	from := p.jobs.lastSeq + 1
	p.jobs.mu.RUnlock()
	for _, c := range p.connections() {
		p.mu.Lock()
		p.nextEN1++
		n := p.nextEN1
		p.mu.Unlock()
		en1 := p.opts.Own.extranonce1(n)
		c.mu.Lock()
		if c.ready {
			c.laterExtranonces = append(c.laterExtranonces, usedExtranonce{from, en1, size})
			c.write(fmt.Appendf(nil, `{"id":null,"method":"mining.set_extranonce","params":["%x",%d]}`+"\n", en1, size))
		}
		c.mu.Unlock()
	}
	p.NewJob(clean)
}
