package stratumtest

import "fmt"

// PoolOrder is what a pool that is a process of its own is told to do.
type PoolOrder struct {
	Do    string // see Pool.Obey
	Clean bool   `json:",omitempty"` // of "job"
	Modes *Modes `json:",omitempty"` // of "modes"
	// Treatments of "treatments"; see Pool.SetTreatments.
	Treatments map[string]Treatment `json:",omitempty"`
}

// PoolAnswer tells how a pool stands once it has done as it was told.
type PoolAnswer struct {
	Err   string `json:",omitempty"`
	Stats PoolStats
	// Rejects and Faults are told only if asked for, with "report".
	Rejects []Reject `json:",omitempty"`
	Faults  []string `json:",omitempty"`
}

// Obey carries out an order by the method it stands for.
func (p *Pool) Obey(order PoolOrder) PoolAnswer {
	var answer PoolAnswer
	switch order.Do {
	case "stats":
	case "report":
		answer.Rejects, answer.Faults = p.Rejects(), p.Faults()
	case "close":
		p.Close()
	case "restart":
		if err := p.Restart(); err != nil {
			answer.Err = err.Error()
		}
	case "close connections":
		p.CloseConnections()
	case "job":
		p.NewJob(order.Clean)
	case "reconnect":
		p.SendReconnect("h", 1, 0)
	case "modes":
		p.SetModes(*order.Modes)
	case "treatments":
		p.SetTreatments(order.Treatments)
	default:
		answer.Err = fmt.Sprintf("no such order: %q", order.Do)
	}
	answer.Stats = p.Stats()
	return answer
}
