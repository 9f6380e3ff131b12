package stratumtest

import "fmt"

// PoolOrder is an order for a pool that runs in another process.
type PoolOrder struct {
	Do    string // see Pool.Obey
	Clean bool   `json:",omitempty"` // for "job"
	Modes *Modes `json:",omitempty"` // for "modes"
	// Treatments is for "treatments"; see Pool.SetTreatments.
	Treatments map[string]Treatment `json:",omitempty"`
}

// PoolAnswer describes a pool after it has carried out an order.
type PoolAnswer struct {
	Err   string `json:",omitempty"`
	Stats PoolStats
	// Rejects and Faults are only set in the answer to "report".
	Rejects []Reject `json:",omitempty"`
	Faults  []string `json:",omitempty"`
}

// Obey carries out an order by calling the corresponding method.
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
		answer.Err = fmt.Sprintf("unknown order %q", order.Do)
	}
	answer.Stats = p.Stats()
	return answer
}
