package eventfile

import "time"

// Kind says what an event is about. Each kind has a rate limit of its own, so that
// events that miners can cause do not displace others.
type Kind string

// The kinds of events.
const (
	KindSwitch    Kind = "switch"    // a sub-account's coin changed, its miners have moved, what that has cost
	KindFailover  Kind = "failover"  // a pool address was taken out, or is back
	KindUpgrade   Kind = "upgrade"   // the program was replaced, or that failed
	KindReload    Kind = "reload"    // a file was read again and its content taken or refused
	KindRefusal   Kind = "refusal"   // a miner was refused
	KindConnected Kind = "connected" // a miner is authorized and has a pool
	KindGone      Kind = "gone"      // such a miner has left
	KindLost      Kind = "lost"      // events are missing before this one
)

// Event is one line of the file. A field is absent if its value is unknown or has no
// meaning for this event. Times are in UTC, work is in hashes.
type Event struct {
	Time time.Time `json:"time"`
	Kind Kind      `json:"event"`
	What string    `json:"what,omitempty"` // tells events of a kind apart; of a refusal the reason

	Account string `json:"account,omitempty"` // sub-account
	Worker  string `json:"worker,omitempty"`  // as the miner wrote it; never its password
	Session string `json:"session,omitempty"` // eight hex digits
	Miner   string `json:"miner,omitempty"`   // address and port
	Agent   string `json:"agent,omitempty"`   // the miner's program

	Coin   string `json:"coin,omitempty"` // of a switch: the one before
	To     string `json:"to,omitempty"`   // of a switch: the new one
	Pool   string `json:"pool,omitempty"` // address
	Detail string `json:"detail,omitempty"`

	Miners  *int     `json:"miners,omitempty"`  // to move, that have moved, or that were taken over
	Missing *int     `json:"missing,omitempty"` // that could not be taken over
	Seconds *float64 `json:"seconds,omitempty"` // that a switch took, an upgrade held shares up, or a miner was connected

	Cost   *Cost   `json:"cost,omitempty"`   // of a switch
	Totals *Totals `json:"totals,omitempty"` // of a miner since it connected

	Count uint64 `json:"count,omitempty"` // of events that are missing
}

// Cost is what a switch has cost.
type Cost struct {
	Late          map[string]uint64 `json:"late"` // late shares by where they ended
	RefusedBefore float64           `json:"refused_work_before"`
	RefusedAfter  float64           `json:"refused_work_after"`
	Before        float64           `json:"seconds_before"` // that these are for
	After         float64           `json:"seconds_after"`
}

// Totals are the counts of a miner.
type Totals struct {
	Submitted uint64            `json:"submitted"`
	Accepted  uint64            `json:"accepted"`
	Refused   map[string]uint64 `json:"refused"` // by reason
	Unknown   uint64            `json:"unknown"` // shares whose work or verdict is not known
	Work      float64           `json:"work"`    // of the accepted shares whose difficulty is known
}

// Of returns a pointer to n. Numbers that may be 0 are pointers in an Event.
func Of[N int | float64](n N) *N { return &n }

// maxText bounds each text of an event, because some come from miners and pools.
const maxText = 300

func (e *Event) clip() {
	for _, text := range []*string{&e.What, &e.Account, &e.Worker, &e.Session, &e.Miner, &e.Agent, &e.Coin, &e.To, &e.Pool, &e.Detail} {
		if len(*text) <= maxText {
			continue
		}
		end := maxText
		for end > 0 && (*text)[end]&0xc0 == 0x80 {
			end-- // not inside a character
		}
		*text = (*text)[:end] + "…"
	}
}
