package eventfile

import "time"

// Kind says what an event is about. Each kind has its own rate, so that one
// which miners can cause does not push out the others.
type Kind string

const (
	KindSwitch    Kind = "switch"    // all miners of a sub-account have moved to another coin, or as many as could
	KindFailover  Kind = "failover"  // a pool address was taken out, or is back
	KindUpgrade   Kind = "upgrade"   // the program was replaced, or that failed
	KindReload    Kind = "reload"    // the configuration was read again, or that failed
	KindRefusal   Kind = "refusal"   // a miner was refused
	KindConnected Kind = "connected" // a miner is authorized and has a pool
	KindGone      Kind = "gone"      // such a miner has left
	KindLost      Kind = "lost"      // events are missing before this one
)

// Event is one line of the file. A field that is not there is not known, or has
// no meaning for this kind. Times are in UTC, work is in hashes.
type Event struct {
	Time time.Time `json:"time"`
	Kind Kind      `json:"event"`
	// What tells kinds of the same event apart, such as "pool taken out" and
	// "pool is back"; for a refusal it is the reason, as metrics name it.
	What string `json:"what,omitempty"`

	Account string `json:"account,omitempty"` // sub-account
	Worker  string `json:"worker,omitempty"`  // as the miner wrote it; never its password
	Session string `json:"session,omitempty"` // eight hex digits
	Miner   string `json:"miner,omitempty"`   // address and port
	Agent   string `json:"agent,omitempty"`   // the miner's program

	Coin   string `json:"coin,omitempty"` // of a switch: the one before
	To     string `json:"to,omitempty"`   // of a switch: the new one
	Pool   string `json:"pool,omitempty"` // address
	Detail string `json:"detail,omitempty"`

	// Of a switch, an upgrade or a reload.
	Miners  int     `json:"miners,omitempty"`  // that moved, or were taken over
	Missing int     `json:"missing,omitempty"` // that could not be
	Seconds float64 `json:"seconds,omitempty"` // that it took; of a miner that is gone: that it was connected

	// Of a switch: what it cost.
	Late       map[string]uint64 `json:"late,omitempty"`        // late shares, by where they ended
	LostBefore float64           `json:"lost_before,omitempty"` // work refused in the minute before
	LostAfter  float64           `json:"lost_after,omitempty"`  // and in the minute after

	// Of a miner that is gone, since it connected.
	Submitted uint64            `json:"submitted,omitempty"`
	Accepted  uint64            `json:"accepted,omitempty"`
	Unknown   uint64            `json:"unknown,omitempty"` // shares whose work or verdict is not known
	Refused   map[string]uint64 `json:"refused,omitempty"` // by reason
	Work      float64           `json:"work,omitempty"`    // of the accepted shares whose difficulty is known

	Count uint64 `json:"count,omitempty"` // of events that are missing
}

// maxText bounds each text of an event. Some are from miners and pools.
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
