//go:build linux && e2e

package e2e

import (
	"encoding/json"
	"syscall"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// chaosPool is a simulated pool, in the test's process or in one of its own.
type chaosPool interface {
	Name() string
	Addr() string
	Close()
	Restart() error
	CloseConnections()
	NewJob(clean bool) string
	SendReconnect(host string, port, wait int)
	SetModes(stratumtest.Modes)
	SetTreatments(map[string]stratumtest.Treatment)
	Stats() stratumtest.PoolStats
	Rejects() []stratumtest.Reject
	Faults() []string
}

// farPool is a poolProcess that obeys orders. While it is frozen, it must not be
// given any.
type farPool struct {
	*poolProcess
	frozen bool
}

// order gives an order and waits until it is carried out.
func (p *farPool) order(order stratumtest.PoolOrder) stratumtest.PoolAnswer {
	p.t.Helper()
	if p.frozen {
		p.t.Fatalf("pool %s is frozen", p.name)
	}
	content, err := json.Marshal(order)
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.life.Write(append(content, '\n')); err != nil {
		p.t.Fatalf("pool %s: %v", p.name, err)
	}
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		p.t.Fatalf("pool %s: %v", p.name, err)
	}
	var answer stratumtest.PoolAnswer
	if err := json.Unmarshal(line, &answer); err != nil {
		p.t.Fatalf("pool %s: %v: %q", p.name, err, line)
	}
	if answer.Err != "" {
		p.t.Fatalf("pool %s: %s", p.name, answer.Err)
	}
	return answer
}

func (p *farPool) do(what string) stratumtest.PoolAnswer {
	p.t.Helper()
	return p.order(stratumtest.PoolOrder{Do: what})
}

func (p *farPool) freeze(on bool) {
	p.t.Helper()
	if on {
		p.signal(syscall.SIGSTOP)
	} else {
		p.signal(syscall.SIGCONT)
	}
	p.frozen = on
}

func (p *farPool) Name() string { return p.name }

func (p *farPool) Addr() string { return p.addr }

func (p *farPool) Close() { p.do("close") }

func (p *farPool) Restart() error { p.do("restart"); return nil }

func (p *farPool) CloseConnections() { p.do("close connections") }

func (p *farPool) SendReconnect(string, int, int) { p.do("reconnect") }

func (p *farPool) Stats() stratumtest.PoolStats { return p.do("stats").Stats }

func (p *farPool) Rejects() []stratumtest.Reject { return p.do("report").Rejects }

func (p *farPool) Faults() []string { return p.do("report").Faults }

func (p *farPool) SetModes(modes stratumtest.Modes) {
	p.order(stratumtest.PoolOrder{Do: "modes", Modes: &modes})
}

func (p *farPool) SetTreatments(by map[string]stratumtest.Treatment) {
	p.order(stratumtest.PoolOrder{Do: "treatments", Treatments: by})
}

func (p *farPool) NewJob(clean bool) string {
	p.order(stratumtest.PoolOrder{Do: "job", Clean: clean})
	return ""
}
