package main

import (
	"bytes"
	"fmt"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// jobNoted records a job of the link in use. If the miner must know the job by another ID
// than the pool's, jobNoted returns that ID. Usually it returns nil.
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

// answerJobNoted records the job in an ETHProxy pool's answer, if there is one. The
// ID is the job's hash, so no other pool has the same.
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

// jobCollides reports whether the miner knows another job by this ID: one of
// another pool, or one of this pool that was renamed.
func (s *Session) jobCollides(id, raw []byte) bool {
	if poolID, ok := s.link.jobs.Find(id); ok && poolID != nil && !bytes.Equal(poolID, raw) {
		return true
	}
	return s.formerJob(id)
}

// formerJob reports whether the miner knows a job of a former link by this ID.
func (s *Session) formerJob(id []byte) bool {
	for _, d := range s.drains {
		if d.jobs.Has(id) {
			return true
		}
	}
	return false
}

// otherID returns another ID for a job whose ID is in use. If the pool sends the
// job again, the result is the same.
func (s *Session) otherID(raw []byte, number bool) []byte {
	if told := s.link.jobs.MinerIDFor(raw); told != nil && !s.formerJob(told) {
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

// Agents know the jobs that were renamed for them by numbers from firstJobNumber to
// lastJobNumber. Their shares have only one byte for the job.
const (
	firstJobNumber = 10
	lastJobNumber  = 255
)

// otherJobID returns another number for a job whose ID is a number. Numbers are used
// in turn, so that it takes long until one is used again.
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
