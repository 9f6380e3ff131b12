package tunnel

import (
	"slices"
	"time"
)

// The goroutine that starts tunnel processes, and decides which of them gets new
// connections.

// begin starts supervise on the first call. t.mu is held.
func (t *Tunnel) begin() {
	if t.begun || t.frozen || t.closed {
		return
	}
	t.begun = true
	stop := t.stop
	t.running.Go(func() { t.supervise(stop) })
	if t.options.CertFile != "" {
		go t.watchPair(t.stop) // Close does not wait for it, because a file system may hang
	}
}

// poke wakes supervise.
func (t *Tunnel) poke() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// supervise starts processes when they are needed, and enforces time limits.
func (t *Tunnel) supervise(stop <-chan struct{}) {
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	asked := time.Now()
	ticked := false
	for {
		t.mu.Lock()
		now := time.Now()
		start := !t.frozen && !t.closed && t.mustStart(now)
		late := t.removeExpired(now)
		if ticked {
			ticked = false
			t.killSilent()
		}
		t.promoteReady(now)
		var wait time.Duration
		if t.mustStart(t.next) && t.next.After(now) {
			wait = t.next.Sub(now)
		}
		if now.Sub(asked) >= t.options.ReportEvery {
			asked = now
			t.requestReports()
		}
		t.mu.Unlock()
		for _, r := range late {
			closeAll(r.fds)
			r.conn.owner.TunnelEnded(r.conn, Ending{Reason: Died, Text: "no tunnel process took the connection in time"})
		}
		if start {
			t.start()
			continue
		}
		var due <-chan time.Time
		if wait > 0 {
			due = time.After(wait)
		}
		select {
		case <-stop:
			return
		case <-t.wake:
		case <-tick.C:
			ticked = true
		case <-due:
		}
	}
}

// mustStart reports whether a process must be started now. t.mu is held.
func (t *Tunnel) mustStart(now time.Time) bool {
	if now.Before(t.next) || t.current == nil && len(t.queue) == 0 && !t.wanted || t.current != nil && !t.wanted {
		return false
	}
	for _, p := range t.all {
		if !p.retired && p != t.current && p.program == t.options.Program {
			return false // this process is being started
		}
	}
	return len(t.all) < maxProcesses
}

// removeExpired removes and returns connections that have waited too long, because no
// process can be started or because a process accepts no messages. t.mu is held.
func (t *Tunnel) removeExpired(now time.Time) []*request {
	var late []*request
	isLate := func(r *request) bool {
		if r.conn == nil || now.Before(r.expires) {
			return false
		}
		late = append(late, r)
		return true
	}
	t.queue = slices.DeleteFunc(t.queue, isLate)
	for _, p := range t.all {
		if len(p.out) < 2 {
			continue
		}
		n := len(late)
		rest := slices.DeleteFunc(p.out[1:], isLate) // the first message may be being sent
		p.out = p.out[:1+len(rest)]
		for _, r := range late[n:] {
			delete(p.conns, r.conn.id)
		}
	}
	return late
}

// killSilent kills processes that have not answered for too long, because their
// connections are stuck and new ones accumulate. Time is counted in ticks, so that it
// does not pass while this process is stopped. t.mu is held.
func (t *Tunnel) killSilent() {
	for _, p := range t.all {
		if p.hello && !p.asked || p.hungUp {
			p.silent = 0
			continue
		}
		if p.silent++; p.silent == max(1, int(t.options.Patience/tickEvery)) {
			t.options.Logf("tunnel process pid=%d has not answered for %v and is killed", p.pid, t.options.Patience)
			p.kill()
		}
	}
}

// requestReports requests a report from each process. t.mu is held.
func (t *Tunnel) requestReports() {
	for _, p := range t.all {
		if p.hello && !p.asked && p.protocol == Protocol {
			p.asked = true
			p.enqueue(&request{message: &message{kind: kindAsk}})
		}
	}
}

// promoteReady directs new connections to a new process once it has said hello and
// has the certificate. t.mu is held.
func (t *Tunnel) promoteReady(now time.Time) {
	for _, p := range t.all {
		if p == t.current || p.retired || !p.hello || p.protocol != Protocol || p.program != t.options.Program {
			continue
		}
		waiting := t.options.CertFile != "" && !p.certified && now.Sub(p.started) < certificateWait && (t.pair.err == nil || t.pair.good != nil)
		// A process with a certificate is not replaced by one without.
		if waiting || t.options.CertFile != "" && t.current != nil && t.current.certified && !p.certified {
			continue
		}
		t.current, t.wanted = p, false
		// Besides the former process, there may be processes of programs that were
		// replaced before their process was ready.
		for _, other := range t.all {
			if other != p {
				other.retire()
			}
		}
		queue := t.queue
		t.queue = nil
		for _, r := range queue {
			t.dispatch(r)
		}
		return
	}
}

// start starts a process. Only supervise calls it.
func (t *Tunnel) start() {
	p, err := startProcess(t)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err == nil && t.closed {
		p.hangUp()
		go p.reap()
		p.log.close()
		return
	}
	if err != nil {
		t.lengthenPause()
		if text := err.Error(); text != t.failure {
			t.failure = text
			t.options.Logf("tunnel process cannot be started: %v", err)
		}
		return
	}
	t.failure = ""
	t.all = append(t.all, p)
	if len(t.all) == maxProcesses {
		t.options.Logf("%d tunnel processes are running, no more are started until one of them ends", maxProcesses)
	}
	t.pair.give(p)
	if !t.frozen { // otherwise the next program takes it over, or Thaw runs it
		p.run()
	}
}

// lengthenPause lengthens the pause before the next start. t.mu is held.
func (t *Tunnel) lengthenPause() {
	t.pause = min(max(2*t.pause, firstPause), lastPause)
	t.next = time.Now().Add(t.pause)
}
