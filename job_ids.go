package main

import (
	"bytes"
	"fmt"
)

// jobSet are IDs of jobs that a link gave.
type jobSet map[string]struct{}

// note adds the job of a mining.notify line, or of an ETHProxy pool's answer.
func (j jobSet) note(line []byte) {
	id := jobID(line)
	if id == nil {
		id = answerJobID(line)
	}
	if id != nil && len(id) <= maxJobID && len(j) < maxDrainJobs {
		j[string(plainID(id))] = struct{}{}
	}
}

// has says whether an ID without escapes is in the set.
func (j jobSet) has(id []byte) bool {
	_, ok := j[string(id)]
	return ok
}

// plainID undoes the escapes of a job ID: pool and miner may differ in them.
func plainID(raw []byte) []byte {
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw
	}
	if text, ok := jsonString(fmt.Appendf(nil, `"%s"`, raw)); ok {
		return []byte(text)
	}
	return raw
}

func newJobSet(ids []string) jobSet {
	jobs := make(jobSet, len(ids))
	for _, id := range ids {
		jobs[id] = struct{}{}
	}
	return jobs
}

// jobID is the first parameter of a mining.notify line, shareJobID the second
// of a mining.submit line: raw JSON strings without their quotes, or numbers.
func jobID(line []byte) []byte      { return scalarParam(line, 0) }
func shareJobID(line []byte) []byte { return scalarParam(line, 1) }

// answerJobID is what ETHProxy has for a job ID: the header, first in an answer
// that is a list. Shares have it where others have the job ID.
func answerJobID(line []byte) []byte { return scalarElement(memberValue(line, memberResult), 0) }
