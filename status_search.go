package main

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// This file serves the search for miners in all sessions.

const (
	maxFound = 100

	// searchBurst is how many searches may be made without a pause. After that, all
	// readers together may make one a second. A repeated search gets the same answer
	// for surveyKeep.
	searchBurst = 8
)

// searcher makes one search at a time.
type searcher struct {
	mu    sync.Mutex
	turns tokenBucket
	text  string // of the last search
	last  searchReply
	made  time.Time
}

// searchReply is /api/search. It is immutable.
type searchReply struct {
	Miners []shownMiner `json:"miners"`
	More   bool         `json:"more"` // more miners were found than are in Miners
}

var errSearchOver = errors.New("the search was cancelled")

func (t *searcher) get(ctx context.Context, m *sessionManager, stop <-chan struct{}, text string) (searchReply, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if text == t.text && time.Since(t.made) < surveyKeep {
		return t.last, nil
	}
	for !t.turns.take(time.Now()) {
		select {
		case <-time.After(t.turns.refill() / 4):
		case <-ctx.Done():
			return searchReply{}, errSearchOver
		case <-stop:
			return searchReply{}, errSearchOver
		}
	}
	found, more, err := m.search(stop, text)
	if err != nil {
		return searchReply{}, err
	}
	reply := searchReply{Miners: []shownMiner{}, More: more}
	for i := range found {
		reply.Miners = append(reply.Miners, found[i].shown())
	}
	t.text, t.last, t.made = text, reply, time.Now()
	return reply, nil
}

func (s *statusServer) serveSearch(w http.ResponseWriter, r *http.Request) {
	text := strings.TrimSpace(r.URL.Query().Get("q"))
	if text == "" || len(text) > maxQuery {
		http.Error(w, "q: a part of a worker's name or of an address, or a session ID", http.StatusBadRequest)
		return
	}
	reply, err := s.searches.get(r.Context(), s.manager, s.stop, text)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	writeJSON(w, reply)
}

// search finds sessions whose address or worker names contain text, or whose session ID
// is text. more is true if there are more than it returns.
func (m *sessionManager) search(stop <-chan struct{}, text string) (found []sessionSnapshot, more bool, err error) {
	text = strings.ToLower(strings.TrimSpace(text))
	id, idErr := strconv.ParseUint(text, 16, 32)
	isID := idErr == nil && len(text) == len(noSessionID)
	type result struct {
		found []sessionSnapshot
		more  bool
	}
	parts := make([]result, len(m.loops))
	ok := m.walk(stop, func(_ int, l *sessionLoop) []*Session { return l.allSessions() }, func(part int, s *Session) {
		r := &parts[part]
		switch {
		case r.more || !(isID && s.hasID && s.id == uint32(id)) && !s.matches(text):
		case len(r.found) == maxFound:
			r.more = true
		default:
			r.found = append(r.found, s.snapshot(s.now()))
		}
	})
	if !ok {
		return nil, false, errLoopsBusy
	}
	for i := range parts {
		found = append(found, parts[i].found...)
		more = more || parts[i].more
	}
	slices.SortFunc(found, func(a, b sessionSnapshot) int {
		if c := compareWorkers(&a, &b); c != 0 {
			return c
		}
		return a.addr.Compare(b.addr)
	})
	if len(found) > maxFound {
		found, more = found[:maxFound], true
	}
	return found, more, nil
}

// matches reports whether text, in lower case, is part of the session's workers
// or address.
func (s *Session) matches(text string) bool {
	if s.auth != nil && containsFold(s.auth.name.String(), text) {
		return true
	}
	for _, w := range s.workers {
		if containsFold(w.name.String(), text) {
			return true
		}
	}
	var b [64]byte
	return strings.Contains(string(s.addr.AppendTo(b[:0])), text)
}

func containsFold(s, lower string) bool { return strings.Contains(strings.ToLower(s), lower) }
