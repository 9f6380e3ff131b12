package main

// attemptList lists the links to an address that are not stable yet, the oldest first. The
// attempts themselves are its elements, which saves memory while all miners of a farm
// connect at once. health.mu guards it.
type attemptList struct{ first, last *attempt }

// add appends a, which must not be in a list.
func (l *attemptList) add(a *attempt) {
	a.listed, a.prev = true, l.last
	if l.last == nil {
		l.first = a
	} else {
		l.last.next = a
	}
	l.last = a
}

// remove takes a out of the list, which it must be in.
func (l *attemptList) remove(a *attempt) {
	if a.prev == nil {
		l.first = a.next
	} else {
		a.prev.next = a.next
	}
	if a.next == nil {
		l.last = a.prev
	} else {
		a.next.prev = a.prev
	}
	a.listed, a.next, a.prev = false, nil, nil
}
