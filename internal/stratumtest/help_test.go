package stratumtest

import (
	"context"
	"encoding/json"
	"testing"
	"time"
)

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func startPool(t *testing.T, opts PoolOptions) *Pool {
	t.Helper()
	p, err := NewPool(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// startMiner starts a miner and waits for its first job.
func startMiner(t *testing.T, opts MinerOptions) *Miner {
	t.Helper()
	m, err := NewMiner(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	if err := m.WaitFor(within(t), func(s MinerStats) bool { return s.Authorized && s.Jobs > 0 }); err != nil {
		t.Fatal(err)
	}
	return m
}

func submit(t *testing.T, m *Miner, tamper func(*Share)) int {
	t.Helper()
	code, err := m.Submit(within(t), tamper)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

func paramsOf(t *testing.T, line []byte) []byte {
	t.Helper()
	var m message
	if err := json.Unmarshal(line, &m); err != nil {
		t.Fatal(err)
	}
	return m.Params
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func checkClean(t *testing.T, m *Miner) {
	t.Helper()
	if s := m.Stats(); !s.Clean() {
		t.Errorf("unexpected statistics of the miner: %+v", s)
	}
}

func checkNoFaults(t *testing.T, p *Pool) {
	t.Helper()
	if f := p.Faults(); len(f) > 0 {
		t.Errorf("the pool saw faults: %q", f)
	}
}
