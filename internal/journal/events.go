package journal

import (
	"container/list"
	"slices"
	"sync"
	"time"
)

// Kind groups events. Each kind has its own room, so that a flood of one,
// which miners may cause, does not push out the others.
type Kind uint8

// The kinds of events.
const (
	Switch   Kind = iota // a sub-account's coin changed
	Failover             // a pool address was taken out or is back
	Pool                 // pool links of a sub-account failed or ended
	Refusal              // miners were refused
	Coins                // the coin source came or went
	Process              // starts and upgrades
	kinds
)

// KindNames are the names of the kinds, in their order.
var KindNames = [kinds]string{"switch", "failover", "pool", "refusal", "coins", "process"}

func (k Kind) String() string { return KindNames[k] }

// Level is how an event is meant.
type Level uint8

// The levels: nothing to judge, an improvement, a problem.
const (
	Note Level = iota
	Good
	Bad
)

var levelNames = [...]string{"note", "good", "bad"}

func (l Level) String() string { return levelNames[l] }

// Bounds of what is kept.
const (
	EventsKept = 150 // events of each kind
	MaxField   = 120 // bytes of a name
	MaxText    = 300 // bytes of a detail
)

// Key says what happened. Equal events are one entry with a count.
type Key struct {
	Kind    Kind
	What    string
	Account string `json:",omitempty"`
	Coin    string `json:",omitempty"`
	To      string `json:",omitempty"` // of a switch: the new coin
	Pool    string `json:",omitempty"`
	About   string `json:",omitempty"` // whom a failure was held against
}

// Event is one entry. Its texts may come from miners and pools.
type Event struct {
	Key
	Level  Level
	Detail string // of the last one
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

// ring has the events of one kind, the latest first.
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

// Restore takes over the events of a former process.
func (l *Events) Restore(events []Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range slices.Backward(events) {
		if e.Kind < kinds && int(e.Level) < len(levelNames) && l.kinds[e.Kind].byKey[e.Key] == nil {
			l.kinds[e.Kind].put(&e)
		}
	}
}

// Clip cuts a text to a number of bytes, between two characters.
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
