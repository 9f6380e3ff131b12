package journal

import (
	"container/list"
	"slices"
	"sync"
	"time"
)

// Kind is the kind of an event. The number of events is limited for each kind
// separately, so that a flood of one kind, which miners may cause, does not displace
// the others.
type Kind uint8

// The kinds of events.
const (
	Switch   Kind = iota // a sub-account's coin changed
	Failover             // a pool address was taken out of use or is back in use
	Pool                 // pool links of a sub-account failed or ended
	Refusal              // miners were refused
	Coins                // the connection to the coin source was established or lost
	Process              // starts and upgrades
	kinds
)

// KindNames are the names of the kinds, in their order.
var KindNames = [kinds]string{"switch", "failover", "pool", "refusal", "coins", "process"}

func (k Kind) String() string { return KindNames[k] }

// Level says whether an event is good or bad news.
type Level uint8

// The levels of events.
const (
	Note Level = iota // neither
	Good              // an improvement
	Bad               // a problem
)

var levelNames = [...]string{"note", "good", "bad"}

func (l Level) String() string { return levelNames[l] }

// These limits bound the memory for events.
const (
	EventsKept = 150 // events of each kind
	MaxField   = 120 // bytes of a name
	MaxText    = 300 // bytes of a detail
)

// Key says what happened. Events with equal keys are one entry with a count.
type Key struct {
	Kind    Kind
	What    string
	Account string `json:",omitempty"`
	Coin    string `json:",omitempty"`
	To      string `json:",omitempty"` // the new coin of a switch
	Pool    string `json:",omitempty"`
	About   string `json:",omitempty"` // what a failure was attributed to
}

// Event is one entry. Its texts may come from miners and pools.
type Event struct {
	Key
	Level  Level
	Detail string // details of the latest occurrence
	First  time.Time
	Last   time.Time
	Count  int
}

// Events keeps the last events for the status page. Any goroutine may use
// it.
type Events struct {
	mu    sync.Mutex
	kinds [kinds]ring
}

// ring holds the events of one kind, the latest first.
type ring struct {
	byKey map[Key]*list.Element
	order list.List
}

// Add records an event.
func (l *Events) Add(level Level, key Key, detail string) {
	key.What, key.Account, key.Coin = Clip(key.What, MaxField), Clip(key.Account, MaxField), Clip(key.Coin, MaxField)
	key.To, key.Pool = Clip(key.To, MaxField), Clip(key.Pool, MaxField)
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	r := &l.kinds[key.Kind]
	if at := r.byKey[key]; at != nil {
		e := at.Value.(*Event)
		e.Level, e.Detail, e.Last = level, Clip(detail, MaxText), now
		e.Count++
		r.order.MoveToFront(at)
		return
	}
	r.put(&Event{Key: key, Level: level, Detail: Clip(detail, MaxText), First: now, Last: now, Count: 1})
}

func (r *ring) put(e *Event) {
	if r.byKey == nil {
		r.byKey = make(map[Key]*list.Element)
	}
	if r.order.Len() == EventsKept {
		oldest := r.order.Back()
		delete(r.byKey, oldest.Value.(*Event).Key)
		r.order.Remove(oldest)
	}
	r.byKey[e.Key] = r.order.PushFront(e)
}

// Amend changes the detail of an event. It is a no-op if the event is no longer
// kept.
func (l *Events) Amend(level Level, key Key, detail string) {
	key.Account, key.Coin, key.To = Clip(key.Account, MaxField), Clip(key.Coin, MaxField), Clip(key.To, MaxField)
	l.mu.Lock()
	defer l.mu.Unlock()
	if at := l.kinds[key.Kind].byKey[key]; at != nil {
		e := at.Value.(*Event)
		e.Level, e.Detail = level, Clip(detail, MaxText)
	}
}

// All returns the events, the latest first.
func (l *Events) All() []Event {
	l.mu.Lock()
	var events []Event
	for i := range l.kinds {
		for at := l.kinds[i].order.Front(); at != nil; at = at.Next() {
			events = append(events, *at.Value.(*Event))
		}
	}
	l.mu.Unlock()
	slices.SortStableFunc(events, func(a, b Event) int { return b.Last.Compare(a.Last) })
	return events
}

// Restore adds the events of a former process.
func (l *Events) Restore(events []Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range slices.Backward(events) {
		if e.Kind < kinds && int(e.Level) < len(levelNames) && l.kinds[e.Kind].byKey[e.Key] == nil {
			l.kinds[e.Kind].put(&e)
		}
	}
}

// Clip shortens a text to at most this number of bytes, without cutting a character,
// and marks it with "…".
func Clip(text string, most int) string {
	if len(text) <= most {
		return text
	}
	end := most
	for end > 0 && text[end]&0xc0 == 0x80 {
		end--
	}
	return text[:end] + "…"
}
