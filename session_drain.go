package main

import (
	"cmp"
	"slices"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/hashrate"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/relay"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// maxDrainOwed is how much longer than DrainSeconds a link that still owes
// answers is kept.
const maxDrainOwed = 10 * time.Second

// maxDrains is how many former links a session may keep open after several
// switches within DrainSeconds. maxLostDrains is how many it may have including
// those that were lost or closed, of which only the jobs are kept.
const (
	maxDrains     = 4
	maxLostDrains = 16
)

// lostWorkKept is how long, with DrainSeconds 0, the jobs of a lost link are known if the
// next link has the same pool but another extranonce.
const lostWorkKept = 5 * time.Second

// drain is a link that a session no longer uses. It stays open for shares that
// were on their way and for the answers to them. The pool's notifications are
// dropped. If the link is lost, the drain stays without a socket: shares for its
// jobs are answered with an error, because any other pool can only refuse them.
//
// A share goes to the link that gave its job. Where two pools use the same job
// ID, the miner was given another ID for the later link's job (session_jobs.go).
// Shares for jobs that no link is known to have given go to the link in use.
type drain struct {
	*link
	session   *Session
	timer     *relay.Timer
	ending    bool // the link is closed as soon as it owes no answers
	premature bool // the link is closed before DrainSeconds are over, so its jobs are kept
	extended  bool // the link is kept longer for shares that the miner had already sent
}

// retireLink takes the session's link out of use before next takes its place. A
// link whose connection is open becomes a drain. If it was lost, its jobs are
// kept; they become next's jobs if next leads to the same pool, which may still
// know them, and the miner's work for them is the same there.
func (s *Session) retireLink(next *link) {
	old := s.link
	if old == nil {
		return
	}
	linger := s.manager.drainTime
	if !old.open() {
		if old.pool == next.pool && !s.numbersJobs() && old.worksLike(next) {
			next.jobs, next.restJobs, next.work, next.difficultySet = old.jobs, old.restJobs, old.work, old.difficultySet
			return
		}
		if linger == 0 && old.pool == next.pool && old.pool.picksExtranonce {
			linger = lostWorkKept
		}
		if linger > 0 {
			s.keepDrain(old, linger)
		}
		return
	}
	s.limitDrains()
	if linger == 0 {
		old.disconnect(s.mayOwe(old))
		s.failRequests(old)
		return
	}
	s.keepDrain(old, linger)
	s.manager.draining.Add(1)
	old.socket.Resume() // if it was paused, answers wait in the kernel
}

// spareDescriptors closes the link just retired, as soon as it owes no answers, if
// descriptors are short. Its jobs are kept, because shares for them must not go to the next
// pool.
func (s *Session) spareDescriptors() {
	if len(s.drains) > 0 && !s.manager.mayDrain() {
		s.drains[len(s.drains)-1].endEarly()
	}
}

// keepDrain adds former, the latest former link, to the drains.
func (s *Session) keepDrain(former *link, linger time.Duration) {
	if len(s.drains) == maxLostDrains {
		s.drains[0].end()
	}
	d := &drain{link: former, session: s}
	d.timer = s.loop.After(linger, d.expire)
	s.drains = append(s.drains, d)
}

// limitDrains closes the oldest former link if there are maxDrains.
func (s *Session) limitDrains() {
	open, oldest := 0, (*drain)(nil)
	for _, d := range slices.Backward(s.drains) {
		if d.open() {
			open, oldest = open+1, d
		}
	}
	if open == maxDrains {
		oldest.lose()
	}
}

// takeJobs moves the former link's jobs to the link in use, which leads to the
// same pool.
func (s *Session) takeJobs(d *drain) {
	later := s.drains[slices.Index(s.drains, d)+1:]
	s.link.jobs.Prepend(&d.jobs, func(key []byte) bool {
		return slices.ContainsFunc(later, func(other *drain) bool { return other.jobs.HasKey(key) })
	}, func(g hashrate.Generation) hashrate.Generation {
		return s.link.work.Adopt(d.work.Difficulty(g), s.now())
	})
	s.link.restJobs = s.link.restJobs || d.restJobs
	d.jobs, d.restJobs = stratum.JobTable{}, false
}

// numbersJobs reports whether pools number the jobs of each connection from the
// start, as sserver does for agents. Numbers of a former connection then mean
// nothing on the next one.
func (s *Session) numbersJobs() bool { return s.agent != nil && s.manager.chain != stratum.Ethereum }

// worksLike reports whether a share for a job of the lost link l means the same on next,
// which leads to the same pool. If the pool has given another extranonce, the share is no
// proof of work there.
func (l *link) worksLike(next *link) bool {
	if !l.pool.picksExtranonce {
		return true
	}
	old, now := l.rules, next.rules
	return old != nil && now != nil && old.translate != nil && now.translate != nil && *old.translate == *now.translate &&
		!old.changed && len(old.former) == 0
}

// adoptsJobs reports whether a link to p can take shares for the jobs of a former
// link to p. It cannot if the pool picks the extranonce, because each connection has
// another one, and the former job's shares are valid only there.
func (s *Session) adoptsJobs(p *pool) bool { return !p.picksExtranonce && !s.numbersJobs() }

// end closes the former link and forgets it.
func (d *drain) end() {
	s := d.session
	s.loop.StopTimer(d.timer)
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
	samePool := d.pool == s.link.pool && s.adoptsJobs(d.pool)
	if samePool {
		s.takeJobs(d)
	}
	if d.ending && !d.premature || samePool {
		d.end()
		return
	}
	d.ending, d.premature = false, false
	s.loop.StopTimer(d.timer)
	d.timer = s.loop.After(s.manager.drainTime, d.expire)
	d.close()
}

// endEarly closes the former link before its time, as soon as it owes no
// answers.
func (d *drain) endEarly() {
	switch {
	case !d.open() || d.ending:
	case d.owes():
		d.finish()
		d.premature = true
	default:
		d.lose()
	}
}

func (d *drain) close() {
	if d.open() {
		d.disconnect(d.owes())
		d.session.manager.draining.Add(-1)
	}
	d.session.failRequests(d.link)
}

// owes reports whether the former pool has yet to answer shares.
func (d *drain) owes() bool { return d.session.owes(d.link) }

func (s *Session) endDrains() {
	for len(s.drains) > 0 {
		s.drains[0].end()
	}
}

// drainOf returns the drain whose socket is sock, or nil.
func (s *Session) drainOf(sock *relay.Socket) *drain {
	for _, d := range s.drains {
		if d.socket == sock {
			return d
		}
	}
	return nil
}

// expire finishes the drain when its time is over. It extends the time if shares for the
// former pool may still wait in the kernel: while the miner is not read because its pool is
// lost, and once if the miner has sent more than was read, as after the process was stopped.
func (d *drain) expire() {
	s := d.session
	reconnecting := s.phase == phaseReconnecting
	if reconnecting || !d.extended && s.miner.HasMore() {
		d.extended = d.extended || !reconnecting
		d.timer = s.loop.After(cmp.Or(s.manager.drainTime, lostWorkKept), d.expire)
		return
	}
	d.finish()
}

// finish ends the drain as soon as it owes no answers.
func (d *drain) finish() {
	if d.ending {
		return
	}
	if !d.owes() {
		d.end()
		return
	}
	d.ending = true
	d.session.loop.StopTimer(d.timer)
	d.timer = d.session.loop.After(maxDrainOwed, d.end)
}

// clearWay ends former links to the address that the session is about to return to, as
// soon as they owe nothing, because the pool would see the same extranonce twice. Links
// to other addresses of the pool stay, and so do all links to pools that pick the
// extranonce.
func (s *Session) clearWay(p *pool, a *poolAddress) {
	if p.picksExtranonce {
		return
	}
	for _, d := range slices.Clone(s.drains) {
		if d.leadsTo(p, a) {
			d.endEarly()
		}
	}
}

// finishDrainsTo ends former links to the address of the link in use, which
// takes shares for their jobs from now on. Jobs of lost links may be known at
// any address of the pool. It leaves links alone whose jobs the link in use cannot
// adopt because the pool picks the extranonce.
func (s *Session) finishDrainsTo(l *link) {
	p, a := l.pool, l.address
	if p.picksExtranonce {
		return
	}
	for _, d := range slices.Clone(s.drains) {
		if s.numbersJobs() {
			if d.leadsTo(p, a) {
				d.endEarly()
			}
			continue
		}
		if d.leadsTo(p, a) || !d.open() && d.pool == p {
			s.takeJobs(d)
			d.premature = false
			d.finish()
		}
	}
}

// routeShare sends a share for a former link's job to that link. If the miner
// knows the job by another ID than the pool, the share gets the pool's ID back.
// It reports whether the share was one of these.
func (s *Session) routeShare(line []byte) bool {
	if len(s.drains) == 0 && s.link.jobs.Unrenamed() && !s.countsLate() {
		return false
	}
	at, _, ok := stratum.JobIDSpan(line, 1)
	if !ok {
		return false
	}
	id := stratum.PlainID(line[at.Start:at.End])
	poolJob, ok := s.link.jobs.Find(id)
	if ok {
		if poolJob == nil {
			return false
		}
		s.rolls(line)
		s.countShare(s.link)
		s.sendShare(s.link, line, poolJob, 0)
		return true
	}
	former, poolJob := s.formerLinkGiving(id)
	if former == nil {
		if !s.countsLate() {
			return false
		}
		s.countShare(s.link)
		s.sendShare(s.link, line, nil, lateShare)
		return true
	}
	s.countShare(former)
	mark := s.lateMark(former)
	if !former.open() {
		s.keepForgotten(s.requests.PushShare(former.tag, stratum.LineID(line), mark))
		if former.pool.picksExtranonce {
			s.failRequestsWith(former, stratum.ErrStaleShare)
		} else {
			s.failRequests(former)
		}
		return true
	}
	s.sendShare(former, line, poolJob, mark)
	return true
}

// formerLinkGiving returns the former link that gave the job, or nil, and the
// pool's ID for the job if the miner knows it by another one.
func (s *Session) formerLinkGiving(id []byte) (former *link, poolJob []byte) {
	for _, d := range slices.Backward(s.drains) {
		if poolJob, ok := d.jobs.Find(id); ok {
			return d.link, poolJob
		}
	}
	if s.link.restJobs {
		return nil, nil
	}
	for _, d := range s.drains {
		if d.restJobs {
			return d.link, nil
		}
	}
	return nil, nil
}

// received passes the former pool's answers on and drops the rest.
func (d *drain) received(b []byte) int {
	s := d.session
	end, err := s.completeEnd(b)
	if err != nil || end == 0 && len(b) > stratum.MaxPoolLine {
		d.lose()
		return 0
	}
	for at := 0; at < end; {
		line := s.nextMessage(b[at:end])
		at += len(line)
		if line[0] == stratum.AgentMagic {
			if line[1] == stratum.AgentAnswer {
				if s.agentAnswered(d.link, line) {
					s.miner.Write(line)
				}
				s.releaseAgentAnswers()
			}
			continue
		}
		if answer := s.formerAnswer(d.link, line); answer != nil {
			s.miner.Write(answer)
			if len(s.held) > 0 {
				s.releaseHeld()
			}
		} else {
			s.manager.monitor.dropped[dropFormerPool].Add(1)
		}
	}
	if d.open() && s.miner.Congested() {
		d.socket.Pause(false)
	}
	if d.ending && !d.owes() {
		d.lose()
	}
	return end
}
