package hashrate

import (
	"encoding/binary"
	"math"
)

// An agent carries many miners on one connection, and its pool sets the difficulty
// of each of them. btcpool's message (src/StratumMessageDispatcher.cc) has these
// fields, with numbers in little-endian order: 0x7F, the type 0x05, the length of the
// message (2 bytes), the exponent of the difficulty, which is a power of two (1 byte),
// the number of miners (2 bytes), and the session of each miner (2 bytes each).

// AgentDifficulty is the type of this message.
const AgentDifficulty = 0x05

const agentDifficultyHead = 4 + 1 + 2

// ReadAgentDifficulty reads this message. power is the exponent, and sessions has
// two bytes for each miner.
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

// agentPower is the exponent of an agent's difficulty plus one. 0 means that the
// pool has set none.
type agentPower uint8

// difficulty converts the exponent from the unit of the chain. On Ethereum, btcpool
// counts in hashes for agents as well.
func (p agentPower) difficulty(u Unit) Difficulty {
	return bounded(math.Ldexp(float64(u)/hashesPerUnit, int(p)-1))
}

// agentMiner is one miner behind an agent.
type agentMiner struct {
	power  agentPower // difficulty of jobs of the generation since and later
	former agentPower // difficulty of earlier jobs; equal to power if these no longer count
	since  Generation
}

// AgentMiners holds the difficulties of the miners behind an agent on one pool
// link. The generations of their jobs are those of the link's [Link]. The zero
// value is ready to use. Each miner takes 5 bytes in a map.
type AgentMiners struct {
	miners  map[uint16]agentMiner
	settled Generation // when settle was called last
}

// SetDifficulties applies a message of the pool. It skips miners that are not known,
// so that a pool cannot use unbounded memory. It reports whether the message was valid.
func (a *AgentMiners) SetDifficulties(message []byte, known func(session uint16) bool, l *Link, now uint32) bool {
	exponent, sessions, ok := ReadAgentDifficulty(message)
	if !ok {
		return false
	}
	since := l.BeginGeneration(now)
	if (since-a.settled)&generationMask >= 32 {
		a.settle(since)
	}
	power := agentPower(min(exponent, math.MaxUint8-1)) + 1
	for ; len(sessions) > 0; sessions = sessions[2:] {
		session := binary.LittleEndian.Uint16(sessions)
		m, set := a.miners[session]
		if !known(session) || set && m.power == power {
			continue
		}
		if !set || m.since != since {
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

// settle forgets the former difficulties of miners whose difficulty changed long
// before generation g. A generation has only seven bits, so an old one would
// otherwise look like a new one.
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

// Settled reports whether all shares of a miner have the same difficulty, so that
// the caller need not look for a share's job.
func (a *AgentMiners) Settled(session uint16, l *Link) bool {
	m, set := a.miners[session]
	return set && m.former == m.power || !set && l.Settled()
}

// Difficulty returns the difficulty of a miner's share for a job of generation g.
// If the pool has set none for this miner, it is the link's difficulty.
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

// agentMinerSize is how many bytes State writes for a miner: session (2 bytes),
// power, former and since (1 byte each).
const agentMinerSize = 5

// State describes the miners for the next process, with agentMinerSize bytes for each.
func (a *AgentMiners) State() []byte {
	var b []byte
	for session, m := range a.miners {
		b = binary.LittleEndian.AppendUint16(b, session)
		b = append(b, byte(m.power), byte(m.former), byte(m.since))
	}
	return b
}

// NewAgentMiners restores what State has written. l is the link that was saved
// together with it. An incomplete record at the end of b is ignored.
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
