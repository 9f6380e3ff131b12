package coins

import "sync"

// mailbox hands work to the goroutine that owns a source's state. It grows as needed,
// so that post never waits. The number of sessions and watches bounds its size.
type mailbox struct {
	// ready has an element if take may return work.
	ready chan struct{}

	mu     sync.Mutex
	queue  []func()
	closed bool
}

func newMailbox() *mailbox {
	return &mailbox{ready: make(chan struct{}, 1)}
}

// post adds work. After close it is a no-op.
func (m *mailbox) post(work func()) {
	m.mu.Lock()
	if !m.closed {
		m.queue = append(m.queue, work)
	}
	m.mu.Unlock()
	select {
	case m.ready <- struct{}{}:
	default:
	}
}

// take removes and returns all work, in the order in which it was posted.
func (m *mailbox) take() []func() {
	m.mu.Lock()
	defer m.mu.Unlock()
	queue := m.queue
	m.queue = nil
	return queue
}

func (m *mailbox) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	m.queue = nil
}

// openQueries holds the queries that were neither answered nor cancelled. It is the
// reason why Cancel can promise that no answer follows.
type openQueries struct {
	mu     sync.Mutex
	closed bool
	open   map[*Query]struct{}
}

// add accepts a query. If the source is closed it answers the query instead, and
// returns false.
func (o *openQueries) add(q *Query) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		// The reply comes from another goroutine, because the caller may hold a lock that
		// Reply needs.
		go answerClosed(q)
		return false
	}
	if o.open == nil {
		o.open = make(map[*Query]struct{})
	}
	o.open[q] = struct{}{}
	return true
}

func (o *openQueries) has(q *Query) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, ok := o.open[q]
	return ok
}

func (o *openQueries) size() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.open)
}

func (o *openQueries) remove(q *Query) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, ok := o.open[q]
	delete(o.open, q)
	return ok
}

// answer replies to a query unless it was cancelled or already answered. A
// successful reply is counted in users first, because its receiver may release the
// account at once.
func (o *openQueries) answer(q *Query, account, coin string, err error, users *int) {
	if !o.remove(q) {
		return
	}
	if err == nil {
		*users++
	}
	q.Reply(account, coin, err)
}

// refuse answers a query with an error if it is still open.
func (o *openQueries) refuse(q *Query, err error) {
	o.answer(q, q.Account, "", err, nil)
}

// close makes add refuse all further queries, and returns those that are open.
func (o *openQueries) close() []*Query {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	left := make([]*Query, 0, len(o.open))
	for q := range o.open {
		left = append(left, q)
	}
	return left
}

func answerClosed(q *Query) {
	q.Reply(q.Account, "", ErrClosed)
}
