package main

import (
	"container/list"
	"slices"
	"sync"
	"time"
)

// eventKind groups events. Each kind has its own room, so that a flood of one,
// which miners may cause, does not push out the others.
type eventKind uint8

const (
	eventSwitch   eventKind = iota // a sub-account's coin changed
	eventFailover                  // a pool address was taken out or is back
	eventPool                      // pool links of a sub-account failed or ended
	eventRefusal                   // miners were refused
	eventCoins                     // the coin source came or went
	eventProcess                   // starts and upgrades
	eventKinds
)

var eventKindNames = [eventKinds]string{"switch", "failover", "pool", "refusal", "coins", "process"}

func (k eventKind) String() string { return eventKindNames[k] }

// eventLevel is how an event is meant.
type eventLevel uint8

const (
	levelNote eventLevel = iota
	levelGood
	levelBad
)

var eventLevelNames = [...]string{"note", "good", "bad"}

func (l eventLevel) String() string { return eventLevelNames[l] }

const (
	eventsKept    = 150 // of each kind
	maxEventField = 120
	maxEventText  = 300
)

// eventKey says what happened. Equal events are one entry with a count.
type eventKey struct {
	Kind    eventKind
	What    string
	Account string `json:",omitempty"`
	Coin    string `json:",omitempty"`
	To      string `json:",omitempty"` // of a switch: the new coin
	Pool    string `json:",omitempty"`
	About   string `json:",omitempty"` // whom a failure was held against
}

// event is an entry of the log. Its texts may come from miners and pools.
type event struct {
	eventKey
	Level  eventLevel
	Detail string // of the last one
	First  time.Time
	Last   time.Time
	Count  int
}

// eventLog keeps the last events for the status page. Any goroutine may use
// it; it does not block for long.
type eventLog struct {
	mu    sync.Mutex
	kinds [eventKinds]eventRing
}

// eventRing are the events of one kind, the last one in front.
type eventRing struct {
	byKey map[eventKey]*list.Element
	order list.List
}

// add notes an event.
func (l *eventLog) add(level eventLevel, key eventKey, detail string) {
	key.What, key.Account, key.Coin = clipText(key.What, maxEventField), clipText(key.Account, maxEventField), clipText(key.Coin, maxEventField)
	key.To, key.Pool = clipText(key.To, maxEventField), clipText(key.Pool, maxEventField)
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	r := &l.kinds[key.Kind]
	if at := r.byKey[key]; at != nil {
		e := at.Value.(*event)
		e.Level, e.Detail, e.Last = level, clipText(detail, maxEventText), now
		e.Count++
		r.order.MoveToFront(at)
		return
	}
	r.put(&event{eventKey: key, Level: level, Detail: clipText(detail, maxEventText), First: now, Last: now, Count: 1})
}

func (r *eventRing) put(e *event) {
	if r.byKey == nil {
		r.byKey = make(map[eventKey]*list.Element)
	}
	if r.order.Len() == eventsKept {
		oldest := r.order.Back()
		delete(r.byKey, oldest.Value.(*event).eventKey)
		r.order.Remove(oldest)
	}
	r.byKey[e.eventKey] = r.order.PushFront(e)
}

// amend changes the detail of an event that is still there.
func (l *eventLog) amend(level eventLevel, key eventKey, detail string) {
	key.Account, key.Coin, key.To = clipText(key.Account, maxEventField), clipText(key.Coin, maxEventField), clipText(key.To, maxEventField)
	l.mu.Lock()
	defer l.mu.Unlock()
	if at := l.kinds[key.Kind].byKey[key]; at != nil {
		e := at.Value.(*event)
		e.Level, e.Detail = level, clipText(detail, maxEventText)
	}
}

// all returns the events, the last one first.
func (l *eventLog) all() []event {
	l.mu.Lock()
	var events []event
	for i := range l.kinds {
		for at := l.kinds[i].order.Front(); at != nil; at = at.Next() {
			events = append(events, *at.Value.(*event))
		}
	}
	l.mu.Unlock()
	slices.SortStableFunc(events, func(a, b event) int { return b.Last.Compare(a.Last) })
	return events
}

// restore takes over the events of a former process.
func (l *eventLog) restore(events []event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range slices.Backward(events) {
		if e.Kind < eventKinds && int(e.Level) < len(eventLevelNames) && l.kinds[e.Kind].byKey[e.eventKey] == nil {
			l.kinds[e.Kind].put(&e)
		}
	}
}

// clipText bounds a text, at a character's end.
func clipText(text string, most int) string {
	if len(text) <= most {
		return text
	}
	end := most
	for end > 0 && text[end]&0xc0 == 0x80 {
		end--
	}
	return text[:end] + "…"
}
