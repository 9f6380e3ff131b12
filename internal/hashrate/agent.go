package hashrate

import (
	"encoding/binary"
	"math"
)

// An agent carries many miners on one connection, and its pool tells each of them
// a difficulty of its own: 0x7F, type 0x05, length of the message (2 bytes, little-
// endian), the power of two that is the difficulty (1), number of miners (2), their
// sessions (2 each). So btcpool writes it (src/StratumMessageDispatcher.cc).

// AgentDifficulty is the type of that message.
const AgentDifficulty = 0x05

const agentDifficultyHead = 4 + 1 + 2

// ReadAgentDifficulty reads such a message: the power of two, and the miners'
// sessions, two bytes each.
func ReadAgentDifficulty(message []byte) (power uint8, sessions []byte, ok bool) {
	if len(message) < agentDifficultyHead || message[1] != AgentDifficulty {
		return 0, nil, false
	}
	sessions = message[agentDifficultyHead:]
	count := int(binary.LittleEndian.Uint16(message[5:]))
	if len(sessions) < 2*count {
		return 0, nil, false
	}
	return message[4], sessions[:2*count], true
}

// agentPower is a difficulty as agents are told it, plus one; 0 is none.
type agentPower uint8

// difficulty is that of a power in the unit of the chain: btcpool counts hashes
// on Ethereum, also for agents.
func (p agentPower) difficulty(u Unit) Difficulty {
	return bounded(math.Ldexp(float64(u)/hashesPerUnit, int(p)-1))
}

// agentMiner is one miner behind an agent.
type agentMiner struct {
	power  agentPower // for jobs of the generation since and later
	former agentPower // for those before; the same if none of them counts any more
	since  Generation
}

// AgentMiners knows the difficulties of the miners behind an agent, on one pool
// link. The generations of their jobs are those of the link's [Link]. The zero
// value is ready; each miner takes 5 bytes and what the map needs.
type AgentMiners struct {
	miners  map[uint16]agentMiner
	settled Generation // when settle was called last
}

// Tell notes a message of the pool. Miners for which known says no are left out,
// so that a pool cannot fill the memory. It reports whether the message was sound.
func (a *AgentMiners) Tell(message []byte, known func(session uint16) bool, l *Link, now uint32) bool {
	exponent, sessions, ok := ReadAgentDifficulty(message)
	if !ok {
		return false
	}
	since := l.Divide(now)
	if (since-a.settled)&generationMask >= 32 {
		a.settle(since)
	}
	power := agentPower(min(exponent, math.MaxUint8-1)) + 1
	for ; len(sessions) > 0; sessions = sessions[2:] {
		session := binary.LittleEndian.Uint16(sessions)
		m, told := a.miners[session]
		if !known(session) || told && m.power == power {
			continue
		}
		if !told || m.since != since {
			m.former = m.power
		}
		m.power, m.since = power, since
		if a.miners == nil {
			a.miners = make(map[uint16]agentMiner)
		}
		a.miners[session] = m
	}
	return true
}

// settle ends changes that were made long before generation g, so that the seven
// bits of a generation never mean an earlier or later one.
func (a *AgentMiners) settle(g Generation) {
	a.settled = g
	for session, m := range a.miners {
		if m.former != m.power && (g-m.since)&generationMask >= 32 {
			m.former = m.power
			a.miners[session] = m
		}
	}
}

// Forget drops a miner that the agent has unregistered.
func (a *AgentMiners) Forget(session uint16) { delete(a.miners, session) }

// Settled reports whether the job of a miner's share need not be looked for.
func (a *AgentMiners) Settled(session uint16, l *Link) bool {
	m, told := a.miners[session]
	return told && m.former == m.power || !told && l.Settled()
}

// Difficulty is that of a miner's share for a job of generation g. A miner that
// was told none of its own has the link's.
func (a *AgentMiners) Difficulty(session uint16, g Generation, l *Link, u Unit) Difficulty {
	m := a.miners[session]
	power := m.power
	if (g-m.since)&generationMask > generationMask/2 {
		power = m.former
	}
	if power == 0 {
		return l.Difficulty(g)
	}
	return power.difficulty(u)
}

// agentMinerSize is how many bytes State has for a miner: session (2), power,
// former, since.
const agentMinerSize = 5

// State describes the miners for the next process.
func (a *AgentMiners) State() []byte {
	var b []byte
	for session, m := range a.miners {
		b = binary.LittleEndian.AppendUint16(b, session)
		b = append(b, byte(m.power), byte(m.former), byte(m.since))
	}
	return b
}

// NewAgentMiners makes what State has described, for the link that was saved
// with it. Whatever else b holds is left out.
func NewAgentMiners(b []byte, l *Link) AgentMiners {
	a := AgentMiners{settled: l.number}
	for ; len(b) >= agentMinerSize; b = b[agentMinerSize:] {
		if a.miners == nil {
			a.miners = make(map[uint16]agentMiner, len(b)/agentMinerSize)
		}
		a.miners[binary.LittleEndian.Uint16(b)] = agentMiner{agentPower(b[2]), agentPower(b[3]), Generation(b[4]) & generationMask}
	}
	return a
}
