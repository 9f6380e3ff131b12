package eventfile

import "time"

// Kind says what an event is about. Each kind has a rate limit of its own, so that
// events that miners can cause do not displace others.
type Kind string

// The kinds of events.
const (
	KindSwitch    Kind = "switch"    // a sub-account's coin changed, its miners have moved, or the cost of that is known
	KindFailover  Kind = "failover"  // a pool address was taken out, or is back
	KindUpgrade   Kind = "upgrade"   // the program was replaced, or its replacement failed
	KindReload    Kind = "reload"    // a file was read again, and its content was accepted or refused
	KindRefusal   Kind = "refusal"   // a miner was refused
	KindConnected Kind = "connected" // a miner is authorized and has a pool
	KindGone      Kind = "gone"      // a miner that was connected has left
	KindLost      Kind = "lost"      // events are missing before this one
)

// Event is one line of the file. A field is absent if its value is unknown or has no
// meaning for this event. Times are in UTC, work is in hashes.
type Event struct {
	Time time.Time `json:"time"`
	Kind Kind      `json:"event"`
	What string    `json:"what,omitempty"` // distinguishes events of the same kind; for a refusal, its reason

	Account string `json:"account,omitempty"` // sub-account
	Worker  string `json:"worker,omitempty"`  // as the miner wrote it; never its password
	Session string `json:"session,omitempty"` // eight hex digits
	Miner   string `json:"miner,omitempty"`   // address and port
	Agent   string `json:"agent,omitempty"`   // the miner's program

	Coin   string `json:"coin,omitempty"` // for a switch, the coin before it
	To     string `json:"to,omitempty"`   // for a switch, the coin after it
	Pool   string `json:"pool,omitempty"` // address of the pool
	Detail string `json:"detail,omitempty"`

	Miners  *int     `json:"miners,omitempty"`  // miners to move, moved, or taken over by an upgrade
	Missing *int     `json:"missing,omitempty"` // miners that an upgrade could not take over
	Seconds *float64 `json:"seconds,omitempty"` // how long a switch took, an upgrade delayed shares, or a miner was connected

	Cost   *Cost   `json:"cost,omitempty"`   // what a switch has cost
	Totals *Totals `json:"totals,omitempty"` // the counts of a miner since it connected

	Count uint64 `json:"count,omitempty"` // how many events are missing
}

// Cost is what a switch has cost.
type Cost struct {
	Late          map[string]uint64 `json:"late"` // late shares by their outcome
	RefusedBefore float64           `json:"refused_work_before"`
	RefusedAfter  float64           `json:"refused_work_after"`
	Before        float64           `json:"seconds_before"` // length of the period that RefusedBefore covers
	After         float64           `json:"seconds_after"`  // length of the period that RefusedAfter covers
}

// Totals are the counts of a miner.
type Totals struct {
	Submitted uint64            `json:"submitted"`
	Accepted  uint64            `json:"accepted"`
	Refused   map[string]uint64 `json:"refused"` // by reason
	Unknown   uint64            `json:"unknown"` // shares whose work or verdict is not known
	Work      float64           `json:"work"`    // total work of the accepted shares whose difficulty is known
}

// Number returns a pointer to n, for the fields of an Event that are absent if unknown but may be 0.
func Number[N int | float64](n N) *N { return &n }

// maxText bounds each text of an event, because some come from miners and pools.
const maxText = 300

func (e *Event) clip() {
	for _, text := range []*string{&e.What, &e.Account, &e.Worker, &e.Session, &e.Miner, &e.Agent, &e.Coin, &e.To, &e.Pool, &e.Detail} {
		if len(*text) <= maxText {
			continue
		}
		end := maxText
		for end > 0 && (*text)[end]&0xc0 == 0x80 {
			end-- // do not cut inside a character
		}
		*text = (*text)[:end] + "…"
	}
}
