package main

import (
	"bytes"
	"fmt"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// jobNoted notes a job of the link in use. It returns the ID to tell the miner
// in place of the pool's, nil if that can stay, as it mostly does.
func (s *Session) jobNoted(line []byte, sc *stratum.ScannedLine) (told []byte) {
	g := s.link.work.Job(s.now())
	if len(s.drains) == 0 && s.link.jobs.Unrenamed() {
		if id := stratum.UsualJobID(line, sc.Members[stratum.MemberParams]); id != nil {
			s.link.jobs.Add(id, nil, g, stratum.MaxLinkJobs)
			return nil
		}
	}
	at, number, ok := stratum.JobIDSpan(line, 0)
	if !ok || at.End-at.Start > stratum.MaxJobID {
		return nil
	}
	raw := line[at.Start:at.End]
	id := stratum.PlainID(raw)
	if len(s.drains) == 0 && s.link.jobs.Unrenamed() {
		s.link.jobs.Add(id, nil, g, stratum.MaxLinkJobs)
		return nil
	}
	if s.jobCollides(id, raw) {
		if told = s.otherID(raw, number); told != nil {
			s.link.jobs.Add(stratum.PlainID(told), raw, g, s.jobLimit())
			return told
		}
	}
	s.link.jobs.Add(id, nil, g, s.jobLimit())
	return nil
}

// answerJobNoted notes the job in an ETHProxy pool's answer, if there is one.
// Its ID is its hash, so that no other pool has the same.
func (s *Session) answerJobNoted(line []byte) {
	if id := stratum.AnswerJobID(line); id != nil {
		s.link.targetHeard(stratum.AnswerTarget(line), s.now())
		s.link.jobs.Add(stratum.PlainID(id), nil, s.link.work.Job(s.now()), s.jobLimit())
	}
}

func (s *Session) jobLimit() int {
	if len(s.drains) > 0 {
		return stratum.MaxDrainJobs
	}
	return stratum.MaxLinkJobs
}

// jobCollides says that the miner knows this ID as another pool's job, or as a
// job of this pool that has another ID there.
func (s *Session) jobCollides(id, raw []byte) bool {
	if own, ok := s.link.jobs.Find(id); ok && own != nil && !bytes.Equal(own, raw) {
		return true
	}
	return s.formerJob(id)
}

// formerJob says whether a former link gave the miner a job by this ID.
func (s *Session) formerJob(id []byte) bool {
	for _, d := range s.drains {
		if d.jobs.Has(id) {
			return true
		}
	}
	return false
}

// otherID is the ID to tell the miner for a job whose own is in use. A pool
// that sends the job again is told of by the same one.
func (s *Session) otherID(raw []byte, number bool) []byte {
	if told := s.link.jobs.ToldFor(raw); told != nil && !s.formerJob(told) {
		if bytes.IndexByte(raw, '\\') < 0 {
			return bytes.Clone(told)
		}
	}
	taken := func(id []byte) bool {
		id = stratum.PlainID(id)
		return s.link.jobs.Has(id) || s.formerJob(id)
	}
	if s.agent != nil {
		return s.agent.otherJobID(raw, taken)
	}
	return stratum.OtherJobID(raw, number, taken)
}

// jobNumbers are the job IDs that an agent can be told besides the pool's: its
// shares have one byte for them, and it takes what begins with another
// character for a job of its own.
const (
	firstJobNumber = 10
	lastJobNumber  = 255
)

// stratum.OtherJobID makes another number for a job that is known by one. Numbers are
// used in turn, so that one is not soon used again.
func (w *agentWorkers) otherJobID(id []byte, taken func(id []byte) bool) []byte {
	if _, ok := stratum.JobNumber(id); !ok {
		return nil
	}
	for range lastJobNumber - firstJobNumber + 1 {
		if w.lastJob <= firstJobNumber || w.lastJob > lastJobNumber {
			w.lastJob = lastJobNumber + 1
		}
		w.lastJob--
		if id := fmt.Append(nil, w.lastJob); !taken(id) {
			return id
		}
	}
	return nil
}
