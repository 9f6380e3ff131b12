package stratumtest

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
)

// An agent's binary message consists of the magic byte, the type, the length of the
// whole message (little endian) and the body. btcpool's sserver and BTCAgent use the same
// layouts. The comments give the fields of each body with their sizes in bytes.
const (
	agentMagic = 0x7f

	agentRegister       = 0x01 // session ID 2, client agent\0, worker\0
	agentSubmit         = 0x02 // job 1, session ID 2, extranonce2 4, nonce 4
	agentSubmitTime     = 0x03 // like agentSubmit, then time 4
	agentUnregister     = 0x04 // session ID 2
	agentSubmitAnswer   = 0x10 // number of the share 2, status 4
	agentSubmitMask     = 0x12 // like agentSubmit, then version mask 4
	agentSubmitTimeMask = 0x13 // like agentSubmit, then time 4, version mask 4
)

// These are a pool's verdicts on an agent's share.
const (
	AgentAccept        = 1798084231
	AgentJobNotFound   = 21
	AgentLowDifficulty = 23
	AgentUnknown       = 2147483647
)

// agentJobs is the number of job IDs on an agent's connection. They count from 0 and are
// reused.
const agentJobs = 10

// agentShareSize returns the size of a share's message, or -1 if kind is not a share.
func agentShareSize(kind byte) int {
	switch kind {
	case agentSubmit:
		return 15
	case agentSubmitTime, agentSubmitMask:
		return 19
	case agentSubmitTimeMask:
		return 23
	}
	return -1
}

// handleCapabilities answers like sserver. Shares are answered only if the agent requests
// that after its authorization.
func (c *poolConn) handleCapabilities(m *message) {
	if c.p.Modes().NoAgentAnswers {
		c.refuse(m, 20, "Unknown method")
		return
	}
	id := string(m.ID)
	if id == "" {
		id = "null"
	}
	c.send([]byte(`{"id":` + id + `,"result":{"capabilities":["verrol","subres"]}}` + "\n"))
	c.mu.Lock()
	authorized := len(c.workers) > 0
	c.mu.Unlock()
	var params [][]string
	if json.Unmarshal(m.Params, &params) == nil && len(params) > 0 && authorized && slices.Contains(params[0], "subres") {
		c.answersShares = true
	}
}

// agentJob assigns the next of the connection's job numbers to a job and returns the
// line to send. It must be called with mu held.
func (c *poolConn) agentJob(j *poolJob, forceClean bool) []byte {
	number := c.agentNext % agentJobs
	c.agentNext++
	if c.agentJobs == nil {
		c.agentJobs = map[byte]*poolJob{}
	}
	c.agentJobs[byte(number)] = j
	w := *j.work
	w.ID = strconv.Itoa(number)
	return notifyLine(&w, j.clean || forceClean)
}

// agentNonce returns the nonce that a share for a job must have. A simulated agent does
// no work, so the nonce only proves which job the share is for.
func agentNonce(j *poolJob) uint32 {
	prev := swapWords(j.work.PrevHash)
	return binary.BigEndian.Uint32(prev[:4])
}

var errAgent = errors.New("bad agent message")

func agentMessageHead(kind byte, bodyLength int) []byte {
	b := []byte{agentMagic, kind}
	return binary.LittleEndian.AppendUint16(b, uint16(4+bodyLength))
}

// handleAgentMessage reads one binary message.
func (c *poolConn) handleAgentMessage() error {
	c.mu.Lock()
	authorized := len(c.workers) > 0
	c.mu.Unlock()
	if !c.agent || !authorized {
		c.p.fault(c, "binary message on a connection with agent %v and authorized %v", c.agent, authorized)
		return errAgent
	}
	head, err := c.r.Peek(4)
	if err != nil {
		return err
	}
	length := int(binary.LittleEndian.Uint16(head[2:]))
	if length < 6 {
		c.p.fault(c, "agent message has only %d bytes", length)
		return errAgent
	}
	msg, err := c.readFull(length)
	if err != nil {
		return err
	}
	c.p.count.agentMessages.Add(1)
	if c.p.Modes().Hang {
		return nil
	}
	session := binary.LittleEndian.Uint16(msg[4:])
	switch kind, body := msg[1], msg[6:]; kind {
	case agentRegister:
		c.registerAgent(session, body)
	case agentSubmit, agentSubmitTime, agentSubmitMask, agentSubmitTimeMask:
		c.submitAgent(msg)
	case agentUnregister:
		if _, found := c.sessions[session]; !found {
			c.p.fault(c, "unknown agent session %d was unregistered", session)
		} else {
			delete(c.sessions, session)
			c.p.count.agentWorkers.Add(-1)
		}
	default:
		c.p.fault(c, "agent message has unknown type %#x", kind)
	}
	c.p.watch.notify()
	return nil
}

func (c *poolConn) registerAgent(session uint16, body []byte) {
	fields := bytes.Split(body, []byte{0})
	if len(fields) != 3 || len(fields[2]) != 0 {
		c.p.fault(c, "agent registration has malformed body %q", body)
		return
	}
	if _, found := c.sessions[session]; found {
		c.p.fault(c, "agent session %d was registered twice", session)
		return
	}
	if c.sessions == nil {
		c.sessions = map[uint16]uint32{}
	}
	c.sessions[session] = 0
	c.p.count.agentWorkers.Add(1)
}

func (c *poolConn) submitAgent(msg []byte) {
	if len(msg) != agentShareSize(msg[1]) {
		c.p.fault(c, "agent share has the wrong size: %x", msg)
		return // sserver ignores such a message, too
	}
	job, session := msg[4], binary.LittleEndian.Uint16(msg[5:])
	sequence, nonce := binary.LittleEndian.Uint32(msg[7:]), binary.LittleEndian.Uint32(msg[11:])
	last, found := c.sessions[session]
	if !found {
		c.p.count.agentRejected.Add(1)
		return // as at sserver, it gets neither an answer nor a number
	}
	c.mu.Lock()
	j := c.agentJobs[job]
	c.mu.Unlock()
	index := c.agentIndex
	c.agentIndex++
	status := uint32(AgentAccept)
	switch {
	case j == nil:
		status = AgentJobNotFound
		c.p.fault(c, "agent session %d: a share is for job %d, which was not sent on this connection", session, job)
	case nonce != agentNonce(j):
		status = AgentLowDifficulty
		c.p.fault(c, "agent session %d: a share for job %d has the nonce of another job", session, job)
	case sequence <= last:
		c.p.fault(c, "agent session %d: share %d came after share %d", session, sequence, last)
	}
	c.sessions[session] = sequence
	if status == AgentAccept {
		c.p.count.agentAccepted.Add(1)
	} else {
		c.p.count.agentRejected.Add(1)
	}
	modes := c.p.Modes()
	if modes.NoShareAnswers || !c.answersShares || modes.HalfAgentAnswers && index%2 == 1 {
		return
	}
	answer := agentMessageHead(agentSubmitAnswer, 6)
	answer = binary.LittleEndian.AppendUint16(answer, index)
	c.sendAfter(modes.AnswerDelay, binary.LittleEndian.AppendUint32(answer, status))
}
