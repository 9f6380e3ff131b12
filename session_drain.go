package main

import (
	"slices"
	"time"
)

// maxDrainOwed is how much longer than DrainSeconds a link stays that still
// owes answers.
const maxDrainOwed = 10 * time.Second

// maxDrains is how many former links a session may keep open, after as many
// switches within DrainSeconds; maxLostDrains is how many there may be with
// those that were lost or closed, of which only the jobs are known.
const (
	maxDrains     = 4
	maxLostDrains = 16
)

// drain is a link a session had before a switch. It stays open for shares that
// were on their way and for the answers to them. The pool's notifications are
// dropped. If the link is lost, the drain stays without a socket: shares for its
// jobs are answered with an error, as any other pool can only refuse them.
//
// A share goes to the link that gave its job. Where two pools use the same ID,
// the miner was told another one for the later link's job (job_table.go). Shares
// for jobs that no link is known to have given go to the link in use.
type drain struct {
	session   *Session
	pool      *pool
	address   *poolAddress // nil if taken over from the process before
	socket    *socket      // nil if it was lost
	rules     *lineRules
	tag       linkTag
	own       *ownRequests
	jobs      jobTable
	rest      bool // jobs that no link is known to have given are its; only after an older process
	timer     *loopTimer
	ending    bool // the link goes as soon as no answer is owed
	premature bool // that is before its time: the jobs stay known when it has gone

	extended bool // for the sake of what the miner had sent
}

// retireUpstream turns the link in use into a draining one, before one to next
// takes its place.
func (s *Session) retireUpstream(next *pool) {
	if s.upstream != nil {
		s.limitDrains()
	}
	old, jobs, rest := s.upstream, s.jobs, s.restJobs
	linger := s.manager.drainTime
	if old == nil {
		// It was lost. Its own pool may still know its jobs.
		if s.pool == next && !s.numbersJobs() {
			return
		}
		s.jobs, s.restJobs = jobTable{}, false
		if s.pool != nil && linger > 0 {
			s.keepDrain(&drain{session: s, pool: s.pool, address: s.address, tag: s.tag, jobs: jobs, rest: rest}, linger)
		}
		return
	}
	s.upstream, s.jobs, s.restJobs = nil, jobTable{}, false
	if linger == 0 {
		closeLink(old, s.owesShares())
		s.failRequests(s.tag, s.own)
		return
	}
	d := &drain{session: s, pool: s.pool, address: s.address, socket: old, rules: s.rules, tag: s.tag, own: s.own, jobs: jobs, rest: rest}
	s.keepDrain(d, linger)
	s.manager.draining.Add(1)
	old.resume() // if it was held back, answers wait in it
}

// spareDescriptors closes the link just retired if descriptors are short, as
// soon as it owes no answers. Its jobs are still not the next pool's.
func (s *Session) spareDescriptors() {
	if len(s.drains) > 0 && !s.manager.mayDrain() {
		s.drains[len(s.drains)-1].endEarly()
	}
}

// keepDrain adds the latest former link.
func (s *Session) keepDrain(d *drain, linger time.Duration) {
	if len(s.drains) == maxLostDrains {
		s.drains[0].end()
	}
	d.timer = s.loop.after(linger, d.expire)
	s.drains = append(s.drains, d)
}

// limitDrains closes the oldest former link if there are maxDrains.
func (s *Session) limitDrains() {
	open, oldest := 0, (*drain)(nil)
	for _, d := range slices.Backward(s.drains) {
		if d.socket != nil {
			open, oldest = open+1, d
		}
	}
	if open == maxDrains {
		oldest.lose()
	}
}

// takeJobs makes the former link's jobs those of the link in use, which goes to
// the same pool.
func (s *Session) takeJobs(d *drain) {
	later := s.drains[slices.Index(s.drains, d)+1:]
	s.jobs.before(&d.jobs, func(id []byte) bool {
		return slices.ContainsFunc(later, func(other *drain) bool { return other.jobs.has(id) })
	})
	s.restJobs = s.restJobs || d.rest
	d.jobs, d.rest = jobTable{}, false
}

// numbersJobs says that pools count the jobs of each connection anew, as sserver
// does for agents: a former connection's numbers mean nothing on the next one.
func (s *Session) numbersJobs() bool { return s.agent != nil && s.manager.chain != chainEthereum }

// end closes the former link, and forgets it.
func (d *drain) end() {
	s := d.session
	s.loop.stopTimer(d.timer)
	s.drains = slices.DeleteFunc(s.drains, func(other *drain) bool { return other == d })
	if len(s.drains) == 0 {
		s.drains = nil
	}
	d.close()
}

// lose closes the former link before its time. Shares for its jobs may still
// come.
func (d *drain) lose() {
	s := d.session
	again := d.pool == s.pool && !s.numbersJobs()
	if again {
		s.takeJobs(d)
	}
	if d.ending && !d.premature || again {
		d.end()
		return
	}
	d.ending, d.premature = false, false
	s.loop.stopTimer(d.timer)
	d.timer = s.loop.after(s.manager.drainTime, d.expire)
	d.close()
}

// endEarly loses the former link, as soon as it owes no answers.
func (d *drain) endEarly() {
	switch {
	case d.socket == nil || d.ending:
	case d.owes():
		d.finish()
		d.premature = true
	default:
		d.lose()
	}
}

func (d *drain) close() {
	if d.socket != nil {
		closeLink(d.socket, d.session.agent.owes(d.tag) || d.session.requests.shares(d.tag) > 0)
		d.socket = nil
		d.session.manager.draining.Add(-1)
	}
	d.session.failRequests(d.tag, d.own)
}

// closeLink ends a connection to a pool. A reset frees the local port at once,
// but may keep the pool from reading what it was sent last: not while shares are
// unanswered.
func closeLink(sock *socket, sharesOwed bool) {
	if sharesOwed {
		sock.close()
		return
	}
	sock.reset()
}

// owesShares says that the link in use has shares to answer. Of an agent that
// wants no answers to its binary shares that is not known.
func (s *Session) owesShares() bool {
	return s.agent != nil && !s.agent.wantsAnswers || s.agent.owes(s.tag) || s.requests.shares(s.tag) > 0
}

// owes says that the former pool has shares to answer. Other requests some
// pools never answer.
func (d *drain) owes() bool {
	return d.session.agent.owes(d.tag) || d.session.requests.shares(d.tag) > 0
}

func (s *Session) endDrains() {
	for len(s.drains) > 0 {
		s.drains[0].end()
	}
}

// drainOf is the former link that sock is, or nil.
func (s *Session) drainOf(sock *socket) *drain {
	for _, d := range s.drains {
		if d.socket == sock {
			return d
		}
	}
	return nil
}

// expire finishes the drain when its time is over. While the miner is not read
// from, because its pool is lost, shares for the former pool may wait in the
// kernel; after a stop of the process as well.
func (d *drain) expire() {
	s := d.session
	reconnecting := s.phase == phaseReconnecting
	if reconnecting || !d.extended && s.miner.hasMore() {
		d.extended = d.extended || !reconnecting
		d.timer = s.loop.after(s.manager.drainTime, d.expire)
		return
	}
	d.finish()
}

// finish ends the drain, as soon as no answer is owed.
func (d *drain) finish() {
	if d.ending {
		return
	}
	if !d.owes() {
		d.end()
		return
	}
	d.ending = true
	d.session.loop.stopTimer(d.timer)
	d.timer = d.session.loop.after(maxDrainOwed, d.end)
}

// to says that the former link goes to an address of p.
func (d *drain) to(p *pool, a *poolAddress) bool {
	return d.address == a || d.address == nil && d.pool == p
}

// clearWay ends former links to an address that the session is on its way back
// to, as far as they owe nothing: it would see the same extranonce twice. Those
// to other addresses of the pool stay.
func (s *Session) clearWay(p *pool, a *poolAddress) {
	for _, d := range slices.Clone(s.drains) {
		if d.to(p, a) {
			d.endEarly()
		}
	}
}

// finishDrainsTo ends former links to an address that the session is back at:
// shares for their jobs are its own again. What was lost of the pool may be
// known at any of its addresses.
func (s *Session) finishDrainsTo(p *pool, a *poolAddress) {
	for _, d := range slices.Clone(s.drains) {
		if s.numbersJobs() {
			if d.to(p, a) {
				d.endEarly()
			}
			continue
		}
		if d.to(p, a) || d.socket == nil && d.pool == p {
			s.takeJobs(d)
			d.premature = false
			d.finish()
		}
	}
}

// routeShare sends a share for a former link's job there, and one for a job that
// the miner knows by another ID than the pool to the pool with the latter. It
// reports whether the share was one of these.
func (s *Session) routeShare(line []byte) bool {
	if len(s.drains) == 0 && s.jobs.renamed == 0 {
		return false
	}
	at, _, ok := jobIDSpan(line, 1)
	if !ok {
		return false
	}
	id := plainID(line[at.start:at.end])
	poolJob, ok := s.jobs.find(id)
	if ok {
		if poolJob == nil {
			return false
		}
		s.countShare(s.pool)
		s.sendShare(s.upstream, s.rules, s.own, s.tag, line, poolJob)
		return true
	}
	d, poolJob := s.drainGiving(id)
	if d == nil {
		return false
	}
	s.countShare(d.pool)
	if d.socket == nil {
		s.requests.push(d.tag, lineID(line), true)
		s.failRequests(d.tag, d.own)
		return true
	}
	s.sendShare(d.socket, d.rules, d.own, d.tag, line, poolJob)
	return true
}

// drainGiving is the former link that gave the job, and what its pool calls it
// if that is something else. It is nil if none of those there are did.
func (s *Session) drainGiving(id []byte) (d *drain, own []byte) {
	for _, d := range slices.Backward(s.drains) {
		if own, ok := d.jobs.find(id); ok {
			return d, own
		}
	}
	if s.restJobs {
		return nil, nil
	}
	for _, d := range s.drains {
		if d.rest {
			return d, nil
		}
	}
	return nil, nil
}

// received passes the former pool's answers on and drops the rest.
func (d *drain) received(b []byte) int {
	s := d.session
	end, err := s.completeEnd(b)
	if err != nil || end == 0 && len(b) > maxPoolLine {
		d.lose()
		return 0
	}
	for at := 0; at < end; {
		line := s.nextMessage(b[at:end])
		at += len(line)
		if line[0] == agentMagic {
			if line[1] == agentAnswer {
				if s.agentAnswered(d.tag, d.pool, line) {
					s.miner.write(line)
				}
				s.releaseAgentAnswers()
			}
			continue
		}
		if answer := s.formerAnswer(d, line); answer != nil {
			s.miner.write(answer)
			if len(s.held) > 0 {
				s.releaseHeld()
			}
		} else {
			s.manager.monitor.dropped[dropFormerPool].Add(1)
		}
	}
	if d.socket != nil && s.miner.congested() {
		d.socket.pause(false)
	}
	if d.ending && !d.owes() {
		d.lose()
	}
	return end
}
