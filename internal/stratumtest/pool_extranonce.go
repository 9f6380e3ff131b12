package stratumtest

import (
	"encoding/hex"
	"fmt"
)

// OwnExtranonce makes a pool choose its miners' extranonces, like every pool that is not
// built for a switcher. A subscribe request that has more parameters than the user agent
// is then a fault.
type OwnExtranonce struct {
	Len  int // bytes of extranonce1, 0-8
	Size int // bytes of extranonce2
}

// usedExtranonce is a connection's extranonce for jobs with sequence numbers from a
// certain one on.
type usedExtranonce struct {
	from uint64
	en1  []byte
	size int
}

// extranonce1 returns the n-th extranonce1 that the pool assigns.
func (o *OwnExtranonce) extranonce1(n uint32) []byte {
	text := fmt.Sprintf("%08x%08x", n*2654435761, n)
	b, _ := hex.DecodeString(text[16-2*o.Len:])
	return b
}

// extranonceFor returns the extranonce that shares for a job must use.
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

// RotateExtranonce gives each connection a new extranonce1 and a new size of extranonce2.
// They take effect with the next job, which it then sends.
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
