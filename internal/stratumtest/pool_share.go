package stratumtest

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// shareKey identifies a share within one connection.
type shareKey struct {
	job         uint64
	extranonce2 uint64
	nonce       uint64
	ntime       uint32
	versionBits uint32
}

// verdict is a pool's decision on a share. Code 0 means that it is accepted.
type verdict struct {
	code   int
	reason string
	bits   int // zero bits that an accepted share needed
}

func reject(code int, format string, args ...any) verdict {
	return verdict{code: code, reason: fmt.Sprintf(format, args...)}
}

func (c *poolConn) hearSubmit(m *message, line []byte) {
	p := c.p
	modes := p.Modes()
	worker, v := c.judge(m)
	if modes.RejectShares && v.code == 0 {
		v = reject(20, "Rejected by mode")
	}
	p.count.submits.Add(1)
	c.mu.Lock()
	if v.code == 0 {
		c.accepted++
	} else {
		c.rejected++
	}
	c.mu.Unlock()
	if v.code == 0 {
		p.count.acceptedOf[v.bits].Add(1)
		p.count.accepted.Add(1)
		worker.accepted.Add(1)
	} else {
		p.noteReject(Reject{time.Now(), c.id, v.code, v.reason, string(line)})
		p.count.rejected[v.code-firstCode].Add(1)
		if worker != nil {
			worker.rejected.Add(1)
		}
	}
	if !modes.NoShareAnswers {
		text := c.answerText(m, "true")
		if v.code != 0 {
			text = c.errorText(m, v.code, v.reason)
		}
		c.sendAfter(modes.AnswerDelay, text)
	}
	p.watch.notify()
}

// judge checks a share. The worker is nil if the share does not name an authorized one.
func (c *poolConn) judge(m *message) (worker *workerCount, v verdict) {
	if !c.subscribed {
		return nil, reject(25, "Not subscribed")
	}
	var params []string
	if err := json.Unmarshal(m.Params, &params); err != nil {
		return nil, reject(20, "Submit parameters are not strings: %v", err)
	}
	c.mu.Lock()
	name := c.lastWorker
	if m.Method == "mining.submit" {
		if len(params) < 3 {
			c.mu.Unlock()
			return nil, reject(20, "Submit has only %d parameters", len(params))
		}
		name = params[0]
		params = params[1:]
	}
	worker = c.workers[name]
	mask, rolling, firstSeq := c.mask, c.askedMask != 0, c.firstSeq
	c.mu.Unlock()
	if worker == nil {
		return nil, reject(24, "Unauthorized worker %s", name)
	}
	if m.Method == "eth_submitWork" {
		if len(params) != 3 {
			return worker, reject(20, "Submit has %d parameters, not 3", len(params))
		}
		params = []string{strings.TrimPrefix(params[1], "0x"), params[0], params[1], params[2]}
	}
	j, v := c.findJob(params[0], firstSeq)
	if v.code != 0 {
		return worker, v
	}
	switch c.p.opts.Chain {
	case Bitcoin:
		v = c.judgeBitcoin(j, params[1:], mask, rolling)
	case Ethereum:
		v = c.judgeEthereum(j, params[1:])
	default:
		v = c.judgeDecred(j, params[1:])
	}
	v.bits = j.bits
	return worker, v
}

// findJob returns a job that was sent on this connection, or a rejection.
func (c *poolConn) findJob(id string, firstSeq uint64) (*poolJob, verdict) {
	t := &c.p.jobs
	t.mu.RLock()
	j, cleanAt := t.known[id], t.cleanAt
	t.mu.RUnlock()
	if c.seenFrom < cleanAt { // shares of older jobs are stale, so they need not be stored
		c.seenFrom = cleanAt
		clear(c.seen)
	}
	if j != nil && firstSeq != 0 && j.seq >= firstSeq {
		return j, verdict{}
	}
	return nil, reject(21, "Job not found: %s", id)
}

func (c *poolConn) judgeBitcoin(j *poolJob, params []string, mask uint32, rolling bool) verdict {
	if len(params) != 3 && len(params) != 4 {
		return reject(20, "Submit has %d parameters", len(params)+2)
	}
	key := shareKey{job: j.seq}
	en1, size := c.extranonceFor(j.seq)
	extranonce2, err := hex.DecodeString(params[0])
	if err != nil || len(extranonce2) != size {
		return reject(20, "Extranonce2 %q is not %d bytes", params[0], size)
	}
	for _, b := range extranonce2 {
		key.extranonce2 = key.extranonce2<<8 | uint64(b)
	}
	if key.ntime, err = parseHex32(params[1]); err != nil {
		return reject(20, "Bad ntime: %v", err)
	}
	if key.ntime < j.work.NTime || key.ntime > j.work.NTime+7200 {
		return reject(20, "Time out of range: %08x", key.ntime)
	}
	nonce, err := parseHex32(params[2])
	if err != nil {
		return reject(20, "Bad nonce: %v", err)
	}
	key.nonce = uint64(nonce)
	version := j.work.Version
	if len(params) == 4 {
		if key.versionBits, err = parseHex32(params[3]); err != nil {
			return reject(20, "Bad version bits: %v", err)
		}
		if !rolling || key.versionBits&^mask != 0 {
			return reject(20, "Version bits %08x outside of mask %08x", key.versionBits, mask)
		}
		version = RollVersion(version, mask, key.versionBits)
	}
	if c.isDuplicate(key) {
		return reject(22, "Duplicate share")
	}
	if c.p.opts.SkipWork {
		return verdict{}
	}
	header := j.work.Header(en1, extranonce2, version, key.ntime, nonce)
	if got := ZeroBits(HashHeader(&header)); got < j.bits {
		return reject(23, "Low difficulty share: %d of %d bits, job %s, extranonce1 %x", got, j.bits, j.id, en1)
	}
	return verdict{}
}

// judgeDecred checks everything except the proof of work, because BLAKE-256 is not in the
// standard library.
func (c *poolConn) judgeDecred(j *poolJob, params []string) verdict {
	if len(params) != 3 {
		return reject(20, "Submit has %d parameters, not 5", len(params)+2)
	}
	extranonce2, err := hex.DecodeString(params[0])
	if err != nil || len(extranonce2) == 0 {
		return reject(20, "Bad extranonce2 %q", params[0])
	}
	key := shareKey{job: j.seq}
	for _, b := range extranonce2 {
		key.extranonce2 = key.extranonce2<<8 | uint64(b)
	}
	if key.ntime, err = parseHex32(params[1]); err != nil {
		return reject(20, "Bad ntime: %v", err)
	}
	nonce, err := parseHex32(params[2])
	if err != nil {
		return reject(20, "Bad nonce: %v", err)
	}
	key.nonce = uint64(nonce)
	if c.isDuplicate(key) {
		return reject(22, "Duplicate share")
	}
	return verdict{}
}

// judgeEthereum checks the format, the job and the nonce, but not the proof of work.
func (c *poolConn) judgeEthereum(j *poolJob, params []string) verdict {
	want := 16 - len(c.ethNonce)
	digits := strings.TrimPrefix(params[0], "0x")
	if len(digits) != want {
		return reject(20, "Nonce %q has %d digits, not %d", params[0], len(digits), want)
	}
	nonce, err := strconv.ParseUint(c.ethNonce+digits, 16, 64)
	if err != nil {
		return reject(20, "Bad nonce: %v", err)
	}
	if c.eth != ethNiceHash {
		if len(params) != 3 {
			return reject(20, "Submit has %d parameters, not 5", len(params)+2)
		}
		if strings.TrimPrefix(params[1], "0x") != j.header {
			return reject(21, "Header %s is not that of job %s", params[1], j.id)
		}
	}
	if c.isDuplicate(shareKey{job: j.seq, nonce: nonce}) {
		return reject(22, "Duplicate share")
	}
	return verdict{}
}

func (c *poolConn) isDuplicate(key shareKey) bool {
	if _, found := c.seen[key]; found {
		return true
	}
	if c.seen == nil {
		c.seen = map[shareKey]struct{}{}
	}
	c.seen[key] = struct{}{}
	return false
}

func (c *poolConn) hearGetWork(m *message) {
	c.p.jobs.mu.RLock()
	j := c.p.jobs.current
	c.p.jobs.mu.RUnlock()
	c.answer(m, `["0x`+j.header+`","0x`+j.seed+`","0x`+ethereumTarget(j.bits)+`"]`)
}
