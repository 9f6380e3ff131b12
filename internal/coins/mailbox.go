package coins

import "sync"

// mailbox hands work to the one goroutine that owns a coin source's state.
// It grows as needed: what is posted is bounded by sessions and watches, and
// nobody who posts may be made to wait.
type mailbox struct {
	// ready has an element if there may be something to take.
	ready chan struct{}

	mu     sync.Mutex
	queue  []func()
	closed bool
}

func newMailbox() *mailbox {
	return &mailbox{ready: make(chan struct{}, 1)}
}

// post puts work in. After close it is dropped.
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

// take gives all that was posted, in order.
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

// openQueries has the queries that were neither answered nor cancelled. It is
// what lets Cancel promise that no answer comes after it.
type openQueries struct {
	mu     sync.Mutex
	closed bool
	open   map[*Query]struct{}
}

// add takes a query in. If the source is closed it is answered instead.
func (o *openQueries) add(q *Query) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		// Not from this goroutine: the caller may hold what Reply needs.
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

// answer replies to a query unless it was cancelled or answered already. A
// coin counts in users before the reply: whoever got it may give it back.
func (o *openQueries) answer(q *Query, account, coin string, err error, users *int) {
	if !o.remove(q) {
		return
	}
	if err == nil {
		*users++
	}
	q.Reply(account, coin, err)
}

// refuse answers a query that is still open with an error.
func (o *openQueries) refuse(q *Query, err error) {
	o.answer(q, q.Account, "", err, nil)
}

// close refuses all further queries and gives those still to be answered.
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
