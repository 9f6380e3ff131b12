package stratumtest

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// handleLine handles one line from the pool or proxy.
func (m *Miner) handleLine(line []byte) {
	m.mu.Lock()
	again := m.handle(line)
	if again && !m.opts.Manual && m.opts.Rate == 0 && m.job != nil && m.idle() {
		m.submit(nil, nil)
	}
	m.mu.Unlock()
	m.watch.notify()
}

// idle reports whether no share is unanswered, or the answer to the last one seems lost.
func (m *Miner) idle() bool {
	return m.stats.unanswered == 0 || time.Since(m.stats.lastShare) > 2*time.Second
}

// handle must be called with mu held. It returns true if the line may let the miner
// submit its next share.
func (m *Miner) handle(line []byte) bool {
	if m.opts.CheatHash && m.handleFast(line) {
		return true
	}
	var msg message
	if err := json.Unmarshal(line, &msg); err != nil {
		m.violation("a line is not JSON: %.200q", line)
		return false
	}
	if msg.Method == "" {
		m.handleAnswer(&msg, line)
		return true
	}
	if !m.authorized {
		m.violation("%s came before the answer to authorize", msg.Method)
	}
	switch msg.Method {
	case "mining.notify":
		if w, err := ParseNotify(msg.Params); err != nil {
			m.violation("%v: %.200q", err, line)
		} else {
			m.takeJob(&minerJob{id: w.ID, work: w}, w.Clean)
		}
	case "mining.set_difficulty":
		var params []float64
		if err := json.Unmarshal(msg.Params, &params); err != nil || len(params) != 1 || params[0] <= 0 {
			m.violation("set_difficulty has bad parameters %s", msg.Params)
			return false
		}
		m.difficulty = BitsOfDifficulty(params[0])
		m.stats.SetDifficulty++
		m.stats.LastDifficulty = params[0]
	case "mining.set_version_mask":
		var params []string
		if err := json.Unmarshal(msg.Params, &params); err != nil || len(params) != 1 {
			m.violation("set_version_mask has bad parameters %s", msg.Params)
			return false
		}
		mask, err := parseHex32(params[0])
		if err != nil || mask&^m.opts.Configure != 0 {
			m.violation("version mask %s is not within the requested mask %08x", params[0], m.opts.Configure)
		}
		m.mask = mask
		m.stats.VersionMasks = append(m.stats.VersionMasks, mask)
	case "mining.set_extranonce":
		m.takeExtranonce(msg.Params)
	case "client.reconnect":
		m.stats.Reconnects++
	default:
		m.violation("unknown method %s", msg.Method)
	}
	return true
}

// handleFast handles jobs and positive answers without decoding JSON.
func (m *Miner) handleFast(line []byte) bool {
	if end := bytes.Index(line, []byte(`,"result":true,"error":null}`)); end > 6 && bytes.HasPrefix(line, []byte(`{"id":`)) {
		if m.authorized {
			m.takeAnswer(string(line[6:end]), nil, nil)
			return true
		}
		return false
	}
	const start = `"method":"mining.notify","params":["`
	at := bytes.Index(line, []byte(start))
	if at < 0 || !m.authorized {
		return false
	}
	rest := line[at+len(start):]
	id, rest, ok := bytes.Cut(rest, []byte(`"`))
	last := bytes.LastIndexByte(rest, '"')
	if !ok || last < 9 {
		return false
	}
	clean := bytes.HasPrefix(rest[last:], []byte(`",true]`))
	if !clean && !bytes.HasPrefix(rest[last:], []byte(`",false]`)) {
		return false
	}
	m.takeJob(&minerJob{id: string(id), ntime: string(rest[last-8 : last])}, clean)
	return true
}

func (m *Miner) takeJob(j *minerJob, clean bool) {
	j.en1, j.en2Size = m.en1, m.en2Size
	if m.difficulty < 0 && m.opts.ShareBits == 0 {
		m.violation("a job came before any difficulty")
	}
	if !m.subscribed {
		m.violation("a job came before the answer to subscribe")
		return
	}
	if at := strings.LastIndexByte(j.id, '-'); at > 0 {
		j.pool = j.id[:at]
	}
	j.bits, j.mask = m.opts.ShareBits, m.mask
	if j.bits == 0 {
		j.bits = max(0, m.difficulty)
	}
	if j.work != nil {
		j.ntime = string(appendHex32(nil, j.work.NTime))
	}
	now := time.Now()
	s := &m.stats
	moved := j.pool != s.Pool
	if moved && s.Pool != "" {
		s.Switches++
		if !clean {
			m.violation("the first job %s after a switch from %s is not clean", j.id, s.Pool)
		}
	}
	if clean {
		s.CleanJobs++
		clear(m.ids)
		m.previous = m.job
	} else if _, found := m.ids[j.id]; found {
		m.violation("job ID %s was repeated without the clean flag", j.id)
	}
	if m.ids == nil {
		m.ids = map[string]struct{}{}
	}
	m.ids[j.id] = struct{}{}
	m.job = j
	s.Jobs++
	s.LastJob, s.LastJobID = now, j.id
	if moved {
		s.Pool, s.PoolSince = j.pool, now
		if s.FirstJobs == nil {
			s.FirstJobs = map[string]time.Time{}
		}
		if _, found := s.FirstJobs[j.pool]; !found {
			s.FirstJobs[j.pool] = now
		}
		if m.opts.fleet != nil {
			m.opts.fleet.notify()
		}
	}
	if clean && m.previous != nil && m.opts.LateShares > 0 && rand.Float64() < m.opts.LateShares {
		previous := m.previous
		m.wg.Add(1)
		go m.lateShare(previous)
	}
}

func (m *Miner) handleAnswer(msg *message, line []byte) {
	if isNull(msg.ID) && isNull(msg.Result) && isNull(msg.Error) {
		m.violation("a line is neither a request nor an answer: %.200q", line)
		return
	}
	m.takeAnswer(string(msg.ID), msg.Result, msg.Error)
}

// takeAnswer handles an answer. If both result and refusal are nil, the result is true.
func (m *Miner) takeAnswer(id string, result, refusal json.RawMessage) {
	request, ok := m.takePending(id)
	if !ok {
		return
	}
	if result == nil && refusal == nil {
		result = json.RawMessage("true")
	}
	switch request.kind {
	case kindConfigure:
		m.takeConfigure(result, refusal)
	case kindSubscribe:
		m.takeSubscribe(result, refusal)
	case kindAuthorize:
		if string(result) == "true" && isNull(refusal) {
			m.authorized = true
			m.stats.Authorized = true
			m.stats.AuthorizedAt = time.Now()
		} else {
			m.refused = true
			m.stats.AuthorizeError = fmt.Sprintf("result %s error %s", result, refusal)
		}
		if m.opts.fleet != nil {
			m.opts.fleet.notify()
		}
	case kindShare:
		m.takeVerdict(request, result, refusal)
		return
	}
	if request.kind != kindOther {
		m.nextSteps()
	}
}

// takeExtranonce handles mining.set_extranonce, which takes effect with the next
// job.
func (m *Miner) takeExtranonce(raw json.RawMessage) {
	var params []json.RawMessage
	var text string
	var size int
	if !m.opts.FollowExtranonce || json.Unmarshal(raw, &params) != nil || len(params) != 2 ||
		json.Unmarshal(params[0], &text) != nil || json.Unmarshal(params[1], &size) != nil || size < 1 || size > 8 {
		m.violation("set_extranonce %s is malformed, or the miner does not support it", raw)
		return
	}
	en1, err := hex.DecodeString(text)
	if err != nil {
		m.violation("set_extranonce %s has an extranonce1 that is not hex", raw)
		return
	}
	m.en1, m.en2Size = en1, size
	m.stats.Extranonces++
}

func (m *Miner) takeConfigure(result, refusal json.RawMessage) {
	var granted struct {
		Rolling *bool  `json:"version-rolling"`
		Mask    string `json:"version-rolling.mask"`
	}
	if err := json.Unmarshal(result, &granted); err != nil || granted.Rolling == nil {
		m.violation("configure was answered with result %s and error %s", result, refusal)
		return
	}
	if !*granted.Rolling {
		return
	}
	mask, err := parseHex32(granted.Mask)
	if err != nil || mask&^m.opts.Configure != 0 {
		m.violation("configure granted mask %q, but the miner requested %08x", granted.Mask, m.opts.Configure)
		return
	}
	m.rolling, m.granted, m.mask = true, mask, mask
	m.stats.GrantedMask = mask
}

func (m *Miner) takeSubscribe(result, refusal json.RawMessage) {
	var fields []json.RawMessage
	var text string
	var pairs [][]string
	err := json.Unmarshal(result, &fields)
	if err == nil && len(fields) != 3 {
		err = fmt.Errorf("%d fields, not 3", len(fields))
	}
	if err == nil {
		err = json.Unmarshal(fields[0], &pairs)
	}
	if err == nil {
		err = json.Unmarshal(fields[1], &text)
	}
	if err == nil {
		m.en1, err = hex.DecodeString(text)
	}
	if err == nil {
		err = json.Unmarshal(fields[2], &m.en2Size)
	}
	if err == nil && (m.en2Size < 1 || m.en2Size > 8) {
		err = fmt.Errorf("extranonce2 size %d", m.en2Size)
	}
	if err != nil {
		m.violation("subscribe was answered with result %s and error %s: %v", result, refusal, err)
		return
	}
	m.subscribed = true
	m.stats.Extranonce1 = text
}

func (m *Miner) violation(format string, args ...any) {
	if len(m.stats.Violations) < maxFaults {
		m.stats.Violations = append(m.stats.Violations, fmt.Sprintf(format, args...))
	}
}
