package stratumtest

import (
	"bytes"
	"encoding/binary"
	"errors"
)

// Binary messages of agents: magic, type, length of the whole message (little
// endian), body.
const (
	agentMagic = 0x7f

	agentRegister     = 0x01 // session id 2, client agent\0, worker\0
	agentSubmit       = 0x02 // session id 2, sequence 4, the share
	agentUnregister   = 0x04 // session id 2
	agentSubmitAnswer = 0x10 // session id 2, sequence 4, status 1
)

var errAgent = errors.New("bad agent message")

func appendAgentHeader(b []byte, kind byte, bodyLength int) []byte {
	b = append(b, agentMagic, kind)
	return binary.LittleEndian.AppendUint16(b, uint16(4+bodyLength))
}

// hearAgent reads one binary message.
func (c *poolConn) hearAgent() error {
	c.mu.Lock()
	authorized := len(c.workers) > 0
	c.mu.Unlock()
	if !c.agent || !authorized {
		c.p.fault(c, "binary message, but agent %v, authorized %v", c.agent, authorized)
		return errAgent
	}
	head, err := c.r.Peek(4)
	if err != nil {
		return err
	}
	length := int(binary.LittleEndian.Uint16(head[2:]))
	if length < 6 {
		c.p.fault(c, "agent message of %d bytes", length)
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
	case agentSubmit, 0x03, 0x12, 0x13, 0x14:
		c.submitAgent(session, body)
	case agentUnregister:
		if _, found := c.sessions[session]; !found {
			c.p.fault(c, "unregister of unknown agent session %d", session)
		} else {
			delete(c.sessions, session)
			c.p.count.agentWorkers.Add(-1)
		}
	default:
		c.p.fault(c, "agent message of type %#x", kind)
	}
	c.p.watch.tell()
	return nil
}

func (c *poolConn) registerAgent(session uint16, body []byte) {
	fields := bytes.Split(body, []byte{0})
	if len(fields) != 3 || len(fields[2]) != 0 {
		c.p.fault(c, "agent register with body %q", body)
		return
	}
	if _, found := c.sessions[session]; found {
		c.p.fault(c, "agent session %d registered twice", session)
		return
	}
	if c.sessions == nil {
		c.sessions = map[uint16]uint32{}
	}
	c.sessions[session] = 0
	c.p.count.agentWorkers.Add(1)
}

func (c *poolConn) submitAgent(session uint16, body []byte) {
	if len(body) < 4 {
		c.p.fault(c, "agent submit of %d bytes", len(body))
		return
	}
	sequence := binary.LittleEndian.Uint32(body)
	last, found := c.sessions[session]
	var status byte
	if found && sequence > last {
		status = 1
		c.sessions[session] = sequence
		c.p.count.agentAccepted.Add(1)
	} else {
		c.p.count.agentRejected.Add(1)
		if found {
			c.p.fault(c, "agent session %d: share %d after share %d", session, sequence, last)
		}
	}
	modes := c.p.Modes()
	if modes.NoShareAnswers {
		return
	}
	answer := appendAgentHeader(nil, agentSubmitAnswer, 7)
	answer = binary.LittleEndian.AppendUint16(answer, session)
	answer = binary.LittleEndian.AppendUint32(answer, sequence)
	c.sendAfter(modes.AnswerDelay, append(answer, status))
}
