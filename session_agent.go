package main

import (
	"bytes"
	"encoding/binary"
	"errors"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// A BTCAgent carries many miners on one connection. After the authorization, it
// and its pools send binary messages as well as JSON lines. A message is 0x7F,
// the type, the length of the whole message (2 bytes, little-endian) and the
// body (docs/protocol.md, "Agents").

// maxRegistered bounds the bytes of the register messages that are kept for one
// agent. It has room for 65536 miners with names of usual length.
const maxRegistered = 4 << 20

var (
	errAgentRegister = errors.New("too many registered workers")
	// errUnlistedAgent ends sessions whose shares could not be read.
	errUnlistedAgent = errors.New("binary message of an agent whose user agent is not in AgentUserAgents")
)

// agentWorkers is what only the session of an agent has: the register messages
// of the agent's miners, which each new pool is sent unchanged, and the answers
// to the agent's binary shares.
type agentWorkers struct {
	messages   map[uint16][]byte // register messages by the number that the agent gave the miner
	size       int               // bytes of all messages
	registered bool              // the agent has registered a miner at some time

	// wantsAnswers means that the agent has asked for answers to its binary shares.
	// The switcher has promised them.
	wantsAnswers bool
	next         uint32       // the agent's number of its next share
	links        []*agentLink // links that have shares to answer or answers that wait
	unrouted     agentLink    // the switcher's answers to shares that no pool will answer
	holding      int          // how many answers wait
	lastJob      int          // the last number given to a job in place of the pool's number
}

func newAgentWorkers() *agentWorkers { return &agentWorkers{messages: make(map[uint16][]byte)} }

// remember keeps a register message, or drops the one that an unregister message
// revokes.
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

// completeEnd returns where the last complete line or message of b ends.
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

// nextMessage returns the first line or message of b, which must be complete.
func (s *Session) nextMessage(b []byte) []byte {
	if s.agent == nil || b[0] != stratum.AgentMagic {
		return stratum.NextLine(b)
	}
	return b[:binary.LittleEndian.Uint16(b[2:])]
}

// agentToPool handles an agent's binary message. It reports whether the message
// goes to the pool in use unchanged. If not, it first calls flush, which writes
// what came before the message.
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
