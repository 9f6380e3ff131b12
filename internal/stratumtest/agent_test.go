package stratumtest

import "testing"

func TestAgentOnPool(t *testing.T) {
	p := startPool(t, PoolOptions{RecordLines: true})
	a, err := NewAgent(AgentOptions{Addr: p.Addr()})
	must(t, err)
	defer a.Close()
	must(t, a.WaitAuthorized(within(t)))
	must(t, a.Run(within(t), 20, 30))
	must(t, a.Unregister(3))
	must(t, a.Submit(3)) // the pool drops it, as sserver does
	must(t, p.WaitFor(within(t), func(s PoolStats) bool { return s.AgentRejected == 1 }))
	p.NewJob(true)
	must(t, a.WaitFor(within(t), func(s AgentStats) bool { return s.Jobs == 2 }))
	s := a.Stats()
	if s.Accepted != 600 || s.Submitted != 601 || s.Doubled > 0 || len(s.Violations) > 0 {
		t.Errorf("unexpected statistics of the agent: %+v", s)
	}
	if ps := p.Stats(); ps.AgentAccepted != 600 || ps.AgentRejected != 1 || ps.AgentWorkers != 19 || ps.AgentMessages != 622 {
		t.Errorf("unexpected statistics of the pool: %+v", ps)
	}
	checkNoFaults(t, p)
	a.Close()
	must(t, p.WaitFor(within(t), func(s PoolStats) bool { return s.AgentWorkers == 0 && s.Connections == 0 }))
}

func TestAgentFaults(t *testing.T) {
	p := startPool(t, PoolOptions{})
	a, err := NewAgent(AgentOptions{Addr: p.Addr()})
	must(t, err)
	defer a.Close()
	must(t, a.WaitAuthorized(within(t)))
	must(t, a.Register(1, "x", "y"))
	must(t, a.Register(1, "x", "y"))
	must(t, a.Unregister(2))
	must(t, p.WaitFor(within(t), func(s PoolStats) bool { return s.Faults == 2 }))
	must(t, a.send([]byte{agentMagic, 1, 3, 0}))
	must(t, a.WaitFor(within(t), func(s AgentStats) bool { return s.Disconnected }))
}
