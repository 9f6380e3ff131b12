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
// of a mining.submit line: raw JSON strings without their quotes.
func jobID(line []byte) []byte      { return stringParam(line, 0) }
func shareJobID(line []byte) []byte { return stringParam(line, 1) }

// answerJobID is what ETHProxy has for a job ID: the header, first in an answer
// that is a list. Shares have it where others have the job ID.
func answerJobID(line []byte) []byte { return stringElement(memberValue(line, resultKey), 0) }

var paramsKey = []byte(`"params"`)

// stringParam finds the n-th parameter of a line.
func stringParam(line []byte, n int) []byte { return stringElement(memberValue(line, paramsKey), n) }

// stringElement finds the n-th element of the JSON array b begins with if it
// and all before it are strings. Escapes are left as they are.
func stringElement(b []byte, n int) []byte {
	if len(b) == 0 || b[0] != '[' {
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
