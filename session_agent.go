package main

import (
	"bytes"
	"encoding/binary"
	"errors"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// BTCAgents carry many miners on one connection. After the authorization they
// and their pools send binary messages beside JSON lines: 0x7F, type, length of
// the whole message (2 bytes, little-endian), body (docs/protocol.md, "Agents").

// maxRegistered bounds the bytes of remembered register messages of one agent:
// room for 65536 miners with names of usual length.
const maxRegistered = 4 << 20

var errAgentRegister = errors.New("too many registered workers")

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
	if len(message) < stratum.AgentHeader+2 {
		return stratum.ErrAgentMessage
	}
	id := binary.LittleEndian.Uint16(message[stratum.AgentHeader:])
	old := w.messages[id]
	w.size -= len(old)
	if message[1] == stratum.AgentUnregister {
		delete(w.messages, id)
		for _, l := range w.links {
			l.miners.Forget(id)
		}
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

// completeEnd is where the last complete line or message of b ends.
func (s *Session) completeEnd(b []byte) (int, error) {
	if s.agent == nil {
		return bytes.LastIndexByte(b, '\n') + 1, nil
	}
	end := 0
	for {
		message, err := stratum.NextAgentMessage(b[end:])
		if err != nil || message == nil {
			return end, err
		}
		end += len(message)
	}
}

// nextMessage is the first line or message of b, which begins with a complete
// one.
func (s *Session) nextMessage(b []byte) []byte {
	if s.agent == nil || b[0] != stratum.AgentMagic {
		return stratum.NextLine(b)
	}
	return b[:binary.LittleEndian.Uint16(b[2:])]
}

// agentToPool deals with an agent's binary message. It reports whether the
// message goes to the pool in use as it is. flush writes what came before it,
// and is called if not.
func (s *Session) agentToPool(message []byte, flush func()) (asItIs bool, err error) {
	switch kind := message[1]; {
	case kind == stratum.AgentRegister || kind == stratum.AgentUnregister:
		if err := s.agent.remember(message); err != nil {
			return true, err
		}
		if k := s.preparing(); k != nil && k.introduced {
			k.socket.Write(message)
		}
	case stratum.IsAgentSubmit(kind):
		return s.agentShare(message, flush), nil
	}
	return true, nil
}
