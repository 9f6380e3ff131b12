package main

import (
	"bytes"
	"fmt"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// recordJob records a job of the link in use. If the miner must know the job by another ID
// than the pool's, recordJob returns that ID. Usually it returns nil.
func (s *Session) recordJob(line []byte, sc *stratum.ScannedLine) (newID []byte) {
	g := s.link.work.Job(s.now())
	if len(s.drains) == 0 && s.link.jobs.Unrenamed() {
		if id := stratum.UsualJobID(line, sc.Members[stratum.MemberParams]); id != nil {
			s.link.jobs.Add(id, nil, g, stratum.MaxLinkJobs)
			return nil
		}
	}
	at, number, ok := stratum.JobIDSpan(line, 0)
	if !ok {
		return nil
	}
	raw := line[at.Start:at.End]
	id := stratum.PlainID(raw)
	if len(s.drains) == 0 && s.link.jobs.Unrenamed() {
		s.link.jobs.Add(id, nil, g, stratum.MaxLinkJobs)
		return nil
	}
	if len(raw) <= stratum.MaxJobID && s.jobCollides(id, raw) {
		if newID = s.otherID(raw, number); newID != nil {
			s.link.jobs.Add(stratum.PlainID(newID), raw, g, s.jobLimit())
			return newID
		}
	}
	s.link.jobs.Add(id, nil, g, s.jobLimit())
	return nil
}

// recordAnswerJob records the job in an ETHProxy pool's answer, if there is one. Its ID
// is the job's hash, so jobs of other pools have other IDs.
func (s *Session) recordAnswerJob(line []byte) {
	if id := stratum.AnswerJobID(line); id != nil {
		s.link.recordTarget(stratum.AnswerTarget(line), s.now())
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

// otherID returns another ID for a job whose ID is in use. number is true if the ID is a
// JSON number. If the pool sends the job again, the result is the same.
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

// Agents know renamed jobs by numbers from firstJobNumber to lastJobNumber, because their
// shares have only one byte for the job.
const (
	firstJobNumber = 10
	lastJobNumber  = 255
)

// otherJobID returns another number for a job whose ID is a number, and nil for any other
// ID. Numbers are used in turn, so that a number is used again as late as possible.
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
