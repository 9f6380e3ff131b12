package main

import (
	"bytes"
	"encoding/binary"
	"errors"
)

// BTCAgents carry many miners on one connection. After the authorization they
// and their pools send binary messages beside JSON lines: 0x7F, type, length of
// the whole message (2 bytes, little-endian), body (docs/protocol.md, "Agents").

const (
	agentMagic  = 0x7f
	agentHeader = 4

	agentRegister   = 0x01
	agentSubmit     = 0x02
	agentSubmitTime = 0x03
	agentUnregister = 0x04
	agentAnswer     = 0x10
	agentSubmitMask = 0x12 // and two more up to agentSubmitLast
	agentSubmitLast = 0x14

	// maxRegistered bounds the bytes of remembered register messages of one
	// agent: room for 65536 miners with names of usual length.
	maxRegistered = 4 << 20
)

var (
	errAgentMessage  = errors.New("binary message of impossible length")
	errAgentRegister = errors.New("too many registered workers")
)

// agentWorkers is what an agent's session has besides that of a miner: the
// register messages of its miners, which a new pool has to be told, as they
// came, in one piece each; and the answers to its binary shares.
type agentWorkers struct {
	messages   map[uint16][]byte // by the agent's own session id
	size       int
	registered bool // some worker was, at some time

	// wantsAnswers: it has asked for answers to its binary shares, and was told
	// that it gets them.
	wantsAnswers bool
	next         uint32       // its number of its next share
	links        []*agentLink // that have shares to answer, or answers that wait
	own          agentLink    // for answers in place of pools that were lost
	holding      int          // how many answers wait
	lastJob      int          // the last number it was told for a job in place of the pool's
}

func newAgentWorkers() *agentWorkers { return &agentWorkers{messages: make(map[uint16][]byte)} }

// remember keeps what a register or unregister message says.
func (w *agentWorkers) remember(message []byte) error {
	if len(message) < agentHeader+2 {
		return errAgentMessage
	}
	id := binary.LittleEndian.Uint16(message[agentHeader:])
	old := w.messages[id]
	w.size -= len(old)
	if message[1] == agentUnregister {
		delete(w.messages, id)
		return nil
	}
	if w.size+len(message) > maxRegistered {
		return errAgentRegister
	}
	w.registered = true
	w.size += len(message)
	w.messages[id] = bytes.Clone(message)
	return nil
}

// appendAll appends all register messages to b.
func (w *agentWorkers) appendAll(b []byte) []byte {
	for _, message := range w.messages {
		b = append(b, message...)
	}
	return b
}

// isAgentSubmit says that the pool answers a message of this type.
func isAgentSubmit(kind byte) bool {
	return kind == agentSubmit || kind == agentSubmitTime || kind >= agentSubmitMask && kind <= agentSubmitLast
}

// nextAgentMessage returns the first complete message or line of b, nil if
// there is none yet.
func nextAgentMessage(b []byte) ([]byte, error) {
	if len(b) == 0 || b[0] != agentMagic {
		return nextLine(b), nil
	}
	if len(b) < agentHeader {
		return nil, nil
	}
	size := int(binary.LittleEndian.Uint16(b[2:]))
	if size < agentHeader {
		return nil, errAgentMessage
	}
	if len(b) < size {
		return nil, nil
	}
	return b[:size], nil
}

// completeEnd is where the last complete line or message of b ends.
func (s *Session) completeEnd(b []byte) (int, error) {
	if s.agent == nil {
		return bytes.LastIndexByte(b, '\n') + 1, nil
	}
	end := 0
	for {
		message, err := nextAgentMessage(b[end:])
		if err != nil || message == nil {
			return end, err
		}
		end += len(message)
	}
}

// nextMessage is the first line or message of b, which begins with a complete
// one.
func (s *Session) nextMessage(b []byte) []byte {
	if s.agent == nil || b[0] != agentMagic {
		return nextLine(b)
	}
	return b[:binary.LittleEndian.Uint16(b[2:])]
}

// agentToPool deals with an agent's binary message. It reports whether the
// message goes to the pool in use as it is. flush writes what came before it,
// and is called if not.
func (s *Session) agentToPool(message []byte, flush func()) (asItIs bool, err error) {
	switch kind := message[1]; {
	case kind == agentRegister || kind == agentUnregister:
		if err := s.agent.remember(message); err != nil {
			return true, err
		}
		if k := s.preparing(); k != nil && k.introduced {
			k.socket.Write(message)
		}
	case isAgentSubmit(kind):
		return s.agentShare(message, flush), nil
	}
	return true, nil
}
