package main

import (
	"bytes"
	"errors"
	"strings"
)

// Odd lines are those that another reader may understand in another way. What
// can be put in one plain form goes on in that form; see decode.go.

// oddMinerLine sends on an odd line in canonical form, or refuses it.
func (s *Session) oddMinerLine(line []byte) {
	canonical, err := canonicalLine(line)
	if err == nil {
		sc := scanPoolLine(canonical)
		if s.plainMinerLine(canonical, &sc, func() {}) {
			s.link.socket.Write(canonical)
		}
		return
	}
	if len(bytes.Trim(line, lineJunk)) == 0 {
		return // some miners send empty lines to keep the connection open
	}
	if answer := s.refuseLine(line, err); answer != nil {
		s.miner.Write(answer)
		return
	}
	s.manager.monitor.dropped[dropNotJSON].Add(1)
}

// refuseLine is the answer to a line that can not be read, nil if there is none.
func (s *Session) refuseLine(line []byte, err error) []byte {
	switch {
	case errors.Is(err, errArray):
		return s.dialect().appendError(nil, nil, errBatch, s.manager.ids.server())
	case errors.Is(err, errAmbiguous):
		return s.dialect().appendError(nil, lineID(bytes.Trim(line, lineJunk)), errNotUnderstood, s.manager.ids.server())
	}
	return nil
}

// resembles reports whether a pool may take a method for one that the switcher
// has rules for: ckpool, for one, compares only the beginning, in any case.
func resembles(method string) bool {
	method = strings.TrimSpace(method)
	for _, known := range []string{"mining.auth", "mining.submit", "mining.subscribe", "eth_submitLogin", "eth_submitWork"} {
		if hasPrefixFold(method, known) {
			return true
		}
	}
	return false
}

// oddPoolLine is an odd line of a pool in canonical form, nil if it says nothing.
func (s *Session) oddPoolLine(from *link, line []byte) []byte {
	canonical, err := canonicalLine(line)
	if err != nil {
		// Some pools echo an id that is a text without its quotes.
		if at, ok := looseID(line); ok {
			if asked, _ := s.requests.find(from.tag, line[at.start:at.end]); asked >= 0 {
				canonical, err = canonicalLine(withID(line, at, s.requests.id(asked)))
			}
		}
	}
	if err == nil {
		return canonical
	}
	if len(bytes.Trim(line, lineJunk)) > 0 {
		s.manager.monitor.dropped[dropNotJSON].Add(1)
	}
	return nil
}

// looseID finds the id of a line that is not JSON.
func looseID(line []byte) (span, bool) {
	const key = `"id"`
	start := bytes.Index(line, []byte(key))
	if start < 0 {
		return span{}, false
	}
	if start = spaceEnd(line, start+len(key)); start == len(line) || line[start] != ':' {
		return span{}, false
	}
	start = spaceEnd(line, start+1)
	end := start
	for end < len(line) && line[end] != ',' && line[end] != '}' && line[end] > ' ' {
		end++
	}
	return span{start, end}, end > start
}

// plainAnswer is an answer without the request that some pools repeat in it: a
// miner would take that for one of the pool's.
func (s *Session) plainAnswer(line []byte, sc *scannedLine) []byte {
	if !sc.isDecorated(line) {
		return line
	}
	r := &response{Result: sc.value(line, memberResult), Error: sc.value(line, memberError)}
	line = s.dialect().appendForwarded(nil, sc.id(line), r)
	*sc = scanPoolLine(line)
	return line
}
