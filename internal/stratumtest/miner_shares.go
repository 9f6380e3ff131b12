package stratumtest

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strconv"
	"time"
)

// Share holds the parameters of mining.submit. Tests change it to have it rejected.
type Share struct {
	Worker      string
	Job         string
	Extranonce2 string
	NTime       string
	Nonce       string
	VersionBits string // "" omits the parameter
}

var errDisconnected = errors.New("miner is disconnected")

// SubmitOne submits one share for the current job and does not wait for the answer.
func (m *Miner) SubmitOne() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.submitPresent()
}

// submitPresent must be called with mu held.
func (m *Miner) submitPresent() error {
	if m.job == nil {
		return ErrNoJob
	}
	return m.submit(nil, nil)
}

// submitPaced is SubmitOne for a fleet's clock. It does nothing if the fleet has been
// stopped in the meantime.
func (m *Miner) submitPaced() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.silent {
		return nil
	}
	return m.submitPresent()
}

// Submit submits one share and waits for the verdict. A tamper function that is not nil
// changes the share first. The code is 0 if the share was accepted, and otherwise the
// error code.
func (m *Miner) Submit(ctx context.Context, tamper func(*Share)) (code int, err error) {
	reply := make(chan int, 1)
	m.mu.Lock()
	if m.job == nil {
		m.mu.Unlock()
		return 0, ErrNoJob
	}
	err = m.submit(tamper, reply)
	m.mu.Unlock()
	if err != nil {
		return 0, err
	}
	select {
	case code = <-reply:
		return code, nil
	case <-m.done:
		return 0, errDisconnected
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// submit must be called with mu held, when the miner has a job.
func (m *Miner) submit(tamper func(*Share), reply chan<- int) error {
	return m.submitFor(m.job, tamper, reply)
}

func (m *Miner) submitFor(j *minerJob, tamper func(*Share), reply chan<- int) error {
	share := m.makeShare(j)
	if tamper != nil {
		tamper(&share)
	}
	number := m.enqueue(kindShare, reply)
	b := make([]byte, 0, 192)
	b = append(b, `{"id":`...)
	b = m.appendID(b, number)
	b = append(b, `,"method":"mining.submit","params":[`...)
	b = append(b, quoteFast(share.Worker)...)
	fields := [...]string{share.Job, share.Extranonce2, share.NTime, share.Nonce, share.VersionBits}
	n := len(fields)
	if share.VersionBits == "" {
		n--
	}
	for _, field := range fields[:n] {
		b = append(b, ',')
		b = append(b, quoteFast(field)...)
	}
	b = append(b, "]}\n"...)
	m.stats.Submitted++
	m.stats.unanswered++
	m.stats.lastShare = time.Now()
	return m.write(b)
}

// makeShare makes a share with a new extranonce2, and mines it unless the miner cheats.
func (m *Miner) makeShare(j *minerJob) Share {
	m.en2++
	en2 := appendHex64(nil, m.en2)[16-2*j.en2Size:]
	share := Share{Worker: m.opts.Worker, Job: j.id, Extranonce2: string(en2), NTime: j.ntime}
	var versionBits uint32
	if m.rolling {
		versionBits = rand.Uint32() & j.mask
		share.VersionBits = string(appendHex32(nil, versionBits))
	}
	nonce := rand.Uint32()
	if j.work != nil && !m.opts.CheatHash {
		var extranonce2 [8]byte
		for i := range extranonce2 {
			extranonce2[i] = byte(m.en2 >> (56 - 8*i))
		}
		header := j.work.Header(j.en1, extranonce2[8-j.en2Size:],
			RollVersion(j.work.Version, j.mask, versionBits), j.work.NTime, nonce)
		var found bool
		if nonce, found = mine(&header, j.bits, nonce); !found {
			m.violation("no nonce was found for %d bits of job %s", j.bits, j.id)
		}
	}
	share.Nonce = string(appendHex32(nil, nonce))
	return share
}

// lateShare submits a share for an outdated job, as a device does that has not dropped
// the old work yet.
func (m *Miner) lateShare(j *minerJob) {
	defer m.wg.Done()
	t := time.NewTimer(m.opts.LateAfter)
	defer t.Stop()
	select {
	case <-t.C:
		m.mu.Lock()
		defer m.mu.Unlock()
		if !m.silent {
			m.stats.Late++
			m.submitFor(j, nil, nil)
		}
	case <-m.done:
	}
}

// takeVerdict must be called with mu held.
func (m *Miner) takeVerdict(request pendingRequest, result, refusal json.RawMessage) {
	s := &m.stats
	s.unanswered--
	code := 0
	if string(result) == "true" && isNull(refusal) {
		s.Accepted++
	} else {
		var reason string
		code, reason = errorCode(refusal)
		if code == 0 {
			m.violation("a share was answered with result %s and error %s", result, refusal)
			code = -1
		}
		s.Rejected++
		if s.RejectedByCode == nil {
			s.RejectedByCode = map[int]uint64{}
		}
		s.RejectedByCode[code]++
		s.LastReject = strconv.Itoa(code) + " " + reason
	}
	if m.opts.latency != nil {
		m.opts.latency.add(time.Since(request.sent))
	}
	if request.reply != nil {
		request.reply <- code
	}
}

// quoteFast is quote without the cost of a JSON encoder for text that needs no escapes.
func quoteFast(s string) string {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' || s[i] == '"' || s[i] == '\\' {
			return quote(s)
		}
	}
	return `"` + s + `"`
}
