package main

import (
	"bytes"
	"time"
)

// maxDrainOwed is how much longer than DrainSeconds a link stays that still
// owes answers.
const maxDrainOwed = 10 * time.Second

// maxDrainJobs bounds the job IDs remembered while a link drains.
const maxDrainJobs = 64

// drain is the link a session had before its last switch. It stays open for
// shares that were on their way and for the answers to them. The pool's
// notifications are dropped.
//
// A share belongs to the new pool if its job ID is one the new pool has given
// since the switch, and to the old pool otherwise. Where both use the same ID
// the new pool's job counts, because it is what the miner was given last.
type drain struct {
	session *Session
	socket  *socket
	owed    int
	jobs    map[string]struct{} // the new pool's
	timer   *loopTimer
	ending  bool // DrainSeconds have passed
}

// retireUpstream turns the link in use into the draining one.
func (s *Session) retireUpstream() {
	s.endDrain()
	old := s.upstream
	if old == nil {
		return
	}
	s.upstream = nil
	linger := s.manager.drainTime
	if linger == 0 || !s.manager.mayDrain() {
		old.close()
		return
	}
	d := &drain{session: s, socket: old, owed: s.owed, jobs: make(map[string]struct{})}
	d.timer = s.loop.after(linger, d.expired)
	old.resume() // if it was held back, answers wait in it
	s.drain = d
	s.manager.draining.Add(1)
}

func (s *Session) endDrain() {
	if d := s.drain; d != nil {
		s.drain = nil
		s.loop.stopTimer(d.timer)
		d.socket.close()
		s.manager.draining.Add(-1)
	}
}

// expired ends the drain, unless answers are owed.
func (d *drain) expired() {
	if d.owed > 0 && !d.ending {
		d.ending = true
		d.timer = d.session.loop.after(maxDrainOwed, d.session.endDrain)
		return
	}
	d.session.endDrain()
}

// sawJobs notes the jobs among the new pool's first lines.
func (d *drain) sawJobs(lines []byte) {
	for len(lines) > 0 {
		line := nextLine(lines)
		lines = lines[len(line):]
		if poolLineKind(line) == lineJob {
			d.sawJob(line)
		}
	}
}

// sawJob notes a job of the new pool.
func (d *drain) sawJob(line []byte) {
	if id := jobID(line); id != nil && len(d.jobs) < maxDrainJobs {
		d.jobs[string(id)] = struct{}{}
	}
}

// takesShare sends a share for a job of the old pool there.
func (d *drain) takesShare(line []byte) bool {
	id := shareJobID(line)
	if id == nil {
		return false
	}
	if _, ok := d.jobs[string(id)]; ok {
		return false
	}
	d.socket.write(line)
	d.owed++
	return true
}

// drainReceived passes the old pool's answers on and drops the rest.
func (s *Session) drainReceived(b []byte) int {
	end := bytes.LastIndexByte(b, '\n') + 1
	if end == 0 && len(b) > maxPoolLine {
		s.endDrain()
		return 0
	}
	for at := 0; at < end; {
		line := nextLine(b[at:end])
		at += len(line)
		if poolLineKind(line) != lineAnswer {
			continue
		}
		s.miner.write(line)
		s.drain.owed--
	}
	if s.miner.congested() {
		s.drain.socket.pause(false)
	}
	if s.drain.ending && s.drain.owed <= 0 {
		s.endDrain()
	}
	return end
}

// jobID is the first parameter of a mining.notify line, shareJobID the second
// of a mining.submit line: raw JSON strings without their quotes.
func jobID(line []byte) []byte      { return stringParam(line, 0) }
func shareJobID(line []byte) []byte { return stringParam(line, 1) }

var paramsKey = []byte(`"params"`)

// stringParam finds the n-th parameter of a line if it and all before it are
// strings. Escapes are left as they are.
func stringParam(line []byte, n int) []byte {
	at := bytes.Index(line, paramsKey)
	if at < 0 {
		return nil
	}
	b := skipSpace(line[at+len(paramsKey):])
	if len(b) == 0 || b[0] != ':' {
		return nil
	}
	if b = skipSpace(b[1:]); len(b) == 0 || b[0] != '[' {
		return nil
	}
	for {
		if b = skipSpace(b[1:]); len(b) == 0 || b[0] != '"' {
			return nil
		}
		end := stringEnd(b)
		if end < 0 {
			return nil
		}
		if n == 0 {
			return b[1:end]
		}
		n--
		if b = skipSpace(b[end+1:]); len(b) == 0 || b[0] != ',' {
			return nil
		}
	}
}

// stringEnd is the index of the quote that ends the JSON string b begins with.
func stringEnd(b []byte) int {
	for i := 1; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return -1
}
