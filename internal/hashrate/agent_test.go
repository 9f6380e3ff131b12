package hashrate

import (
	"encoding/binary"
	"testing"
	"unsafe"
)

// agentMessage is a message in which a pool sends an agent a power of two for some
// miners.
func agentMessage(power uint8, sessions ...uint16) []byte {
	b := []byte{0x7f, AgentDifficulty, 0, 0, power}
	b = binary.LittleEndian.AppendUint16(b, uint16(len(sessions)))
	for _, s := range sessions {
		b = binary.LittleEndian.AppendUint16(b, s)
	}
	binary.LittleEndian.PutUint16(b[2:], uint16(len(b)))
	return b
}

func anyMiner(uint16) bool { return true }

func TestReadAgentDifficulty(t *testing.T) {
	// btcpool's sserver writes this for 2^13 and the sessions 1 and 258.
	power, sessions, ok := ReadAgentDifficulty([]byte{0x7f, 0x05, 11, 0, 13, 2, 0, 1, 0, 2, 1})
	if !ok || power != 13 || string(sessions) != "\x01\x00\x02\x01" {
		t.Errorf("power %d, sessions %x, ok %t", power, sessions, ok)
	}
	for _, bad := range [][]byte{
		nil, {0x7f}, {0x7f, 0x05, 7, 0, 13, 1}, {0x7f, 0x05, 9, 0, 13, 2, 0, 1, 0}, {0x7f, 0x05, 8, 0, 13, 1, 0, 1},
		{0x7f, 0x05, 7, 0, 13, 255, 255}, {0x7f, 0x06, 9, 0, 13, 1, 0, 1, 0},
	} {
		if _, _, ok := ReadAgentDifficulty(bad); ok {
			t.Errorf("% x is accepted", bad)
		}
	}
}

func TestAgentMiners(t *testing.T) {
	var l Link
	var a AgentMiners
	l.SetDifficulty(1024, 0) // what miners have until they get their own
	j0 := l.Job(0)
	a.SetDifficulties(agentMessage(12, 1, 2), anyMiner, &l, 10)
	j1 := l.Job(10)
	a.SetDifficulties(agentMessage(14, 2), anyMiner, &l, 20)
	a.SetDifficulties(agentMessage(12, 1), anyMiner, &l, 20) // sent again
	j2 := l.Job(20)
	for _, c := range []struct {
		session uint16
		job     Generation
		want    Difficulty
	}{
		{1, j0, 1024}, {1, j1, 4096}, {1, j2, 4096},
		{2, j0, 4096}, // only the last but one is known
		{2, j1, 4096}, {2, j2, 16384},
		{3, j0, 1024}, {3, j1, 1024}, {3, j2, 1024},
	} {
		if got := a.Difficulty(c.session, c.job, &l, UnitBitcoin); got != c.want {
			t.Errorf("session %d, job of generation %d: %v, want %v", c.session, c.job, got, c.want)
		}
	}
	if got := a.Difficulty(2, j2, &l, UnitEthereum); got.Hashes() != 16384 {
		t.Errorf("on Ethereum: got %v hashes", got.Hashes())
	}
	a.Forget(2)
	if got := a.Difficulty(2, j2, &l, UnitBitcoin); got != 1024 {
		t.Errorf("a miner that has left still has %v", got)
	}
}

func TestAgentMinersAreThoseKnown(t *testing.T) {
	var l Link
	var a AgentMiners
	all := make([]uint16, 32000)
	for i := range all {
		all[i] = uint16(i)
	}
	a.SetDifficulties(agentMessage(12, all...), func(s uint16) bool { return s == 7 }, &l, 0)
	if len(a.miners) != 1 {
		t.Errorf("%d miners are remembered, want the one that is known", len(a.miners))
	}
}

// A miner that got a difficulty once keeps it, however many others change.
func TestAgentMinersOverManyChanges(t *testing.T) {
	var l Link
	var a AgentMiners
	a.SetDifficulties(agentMessage(10, 1), anyMiner, &l, 0)
	l.Job(0)
	a.SetDifficulties(agentMessage(20, 1), anyMiner, &l, 0)
	for i := range uint32(1000) {
		g := l.Job(i)
		if got := a.Difficulty(1, g, &l, UnitBitcoin); got != 1<<20 {
			t.Fatalf("after %d changes: %v", i, got)
		}
		a.SetDifficulties(agentMessage(uint8(i%30), 2), anyMiner, &l, i)
	}
	if !a.Settled(1, &l) {
		t.Error("a change of long ago is still kept")
	}
	if n := unsafe.Sizeof(agentMiner{}); n != 3 {
		t.Errorf("a miner takes %d bytes", n)
	}
}

func TestAgentMinersState(t *testing.T) {
	var l Link
	var a AgentMiners
	a.SetDifficulties(agentMessage(10, 1, 2, 500), anyMiner, &l, 0)
	j := l.Job(0)
	a.SetDifficulties(agentMessage(11, 2), anyMiner, &l, 5)
	k := l.Job(5)
	l2 := l.State(100).Link(3)
	b := NewAgentMiners(append(a.State(), 1, 2, 3), &l2)
	for _, session := range []uint16{1, 2, 3, 500} {
		for _, g := range []Generation{j, k} {
			if got, want := b.Difficulty(session, g, &l2, UnitBitcoin), a.Difficulty(session, g, &l, UnitBitcoin); got != want {
				t.Errorf("session %d, generation %d: %v after an upgrade, before it %v", session, g, got, want)
			}
		}
	}
}

func FuzzAgentDifficulty(f *testing.F) {
	f.Add(agentMessage(12, 1, 2, 3), []byte{1, 0, 13, 12, 200})
	f.Fuzz(func(t *testing.T, message, state []byte) {
		var l Link
		l.Job(0)
		a := NewAgentMiners(state, &l)
		a.SetDifficulties(message, anyMiner, &l, 1)
		for session := range a.miners {
			if d := a.Difficulty(session, l.Job(2), &l, UnitBitcoin); d != 0 && (d < 1 || d > maxDifficulty) {
				t.Fatalf("session %d has %v", session, d)
			}
		}
	})
}
