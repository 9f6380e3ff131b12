package stratum

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strconv"
)

// The header and types of an agent's binary messages, as BTCAgent and sserver define
// them (docs/protocol.md, "Agents"). Numbers are little-endian.
const (
	AgentMagic  = 0x7f
	AgentHeader = 4

	AgentRegister   = 0x01
	AgentSubmit     = 0x02
	AgentSubmitTime = 0x03
	AgentUnregister = 0x04
	AgentAnswer     = 0x10
	AgentSubmitMask = 0x12 // AgentSubmitMask to AgentSubmitLast are submits, too
	AgentSubmitLast = 0x14

	AgentAnswerSize = AgentHeader + 2 + 4

	// agentShareHead is the size of the fields that every share of a bitcoin agent
	// begins with: the header, the job (1 byte) and the miner's session (2 bytes).
	agentShareHead = AgentHeader + 1 + 2
)

// ErrAgentMessage means that a message announces fewer bytes than its header has. The
// stream cannot be read any further.
var ErrAgentMessage = errors.New("binary message with an invalid length")

// IsAgentSubmit reports whether messages of this type are shares.
func IsAgentSubmit(kind byte) bool {
	return kind == AgentSubmit || kind == AgentSubmitTime || kind >= AgentSubmitMask && kind <= AgentSubmitLast
}

// NextAgentMessage returns the first message or line of b, or nil if it is still
// incomplete.
func NextAgentMessage(b []byte) ([]byte, error) {
	if len(b) == 0 || b[0] != AgentMagic {
		return NextLine(b), nil
	}
	if len(b) < AgentHeader {
		return nil, nil
	}
	size := int(binary.LittleEndian.Uint16(b[2:]))
	if size < AgentHeader {
		return nil, ErrAgentMessage
	}
	if len(b) < size {
		return nil, nil
	}
	return b[:size], nil
}

// AgentStatus is the outcome of a share. The values are those that sserver and
// BTCAgent use.
type AgentStatus uint32

const (
	StatusAccept       AgentStatus = 1798084231
	StatusAcceptStale  AgentStatus = 950395421
	StatusSolved       AgentStatus = 1422486894
	StatusSolvedStale  AgentStatus = 1713984938
	StatusUnauthorized AgentStatus = 24
	StatusUnknown      AgentStatus = 2147483647
)

func (st AgentStatus) Accepted() bool {
	return st == StatusAccept || st == StatusAcceptStale || st == StatusSolved || st == StatusSolvedStale
}

// JobNumber reads a job ID as agents do: as a number of one byte.
func JobNumber(id []byte) (byte, bool) {
	n, err := strconv.ParseUint(string(id), 10, 8)
	return byte(n), err == nil
}

// AppendAgentAnswer appends the answer to a share to b. number is the share's
// number as the agent counts them; only its low 16 bits are sent.
func AppendAgentAnswer(b []byte, number uint32, status AgentStatus) []byte {
	b = append(b, AgentMagic, AgentAnswer, AgentAnswerSize, 0)
	b = binary.LittleEndian.AppendUint16(b, uint16(number))
	return binary.LittleEndian.AppendUint32(b, uint32(status))
}

// AgentShareSession returns the number by which the agent knows the miner of a
// share.
func (c Chain) AgentShareSession(message []byte) (session uint16, ok bool) {
	at := AgentHeader + 1
	if c == Ethereum {
		at = AgentHeader
	}
	if len(message) < agentShareHead {
		return 0, false
	}
	return binary.LittleEndian.Uint16(message[at:]), true
}

// AgentShareJob appends the ID of a share's job to b. The share of an ethereum
// agent has the session (2 bytes), a nonce (8 bytes) and the job, which is a hash.
// In a message of the type AgentSubmitLast, another hash follows.
func (c Chain) AgentShareJob(b, message []byte) []byte {
	if len(message) < agentShareHead {
		return b
	}
	if c != Ethereum {
		return strconv.AppendUint(b, uint64(message[AgentHeader]), 10)
	}
	end := len(message)
	if message[1] == AgentSubmitLast {
		end -= 32
	}
	if end < AgentHeader+10 || end > AgentHeader+10+32 {
		return b
	}
	return hex.AppendEncode(b, message[AgentHeader+10:end])
}
