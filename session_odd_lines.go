package main

import (
	"bytes"
	"errors"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// Odd lines are lines that another reader may understand differently. They are
// passed on in canonical form if they have one; see stratum.CanonicalLine.

// oddMinerLine passes an odd line on in canonical form, or refuses it.
func (s *Session) oddMinerLine(line []byte) {
	canonical, err := stratum.CanonicalLine(line)
	if err == nil {
		sc := stratum.ScanPoolLine(canonical)
		if s.plainMinerLine(canonical, &sc, func() {}) {
			s.link.socket.Write(canonical)
		}
		return
	}
	if len(bytes.Trim(line, stratum.LineJunk)) == 0 {
		return // some miners send empty lines to keep the connection open
	}
	if answer := s.refuseLine(line, err); answer != nil {
		s.miner.Write(answer)
		return
	}
	s.manager.monitor.dropped[dropNotJSON].Add(1)
}

// refuseLine returns the answer to a line that cannot be read, or nil if it gets
// none.
func (s *Session) refuseLine(line []byte, err error) []byte {
	switch {
	case errors.Is(err, stratum.ErrArray):
		return s.dialect().AppendError(nil, nil, stratum.ErrBatch, s.manager.ids.server())
	case errors.Is(err, stratum.ErrAmbiguous):
		return s.dialect().AppendError(nil, stratum.LineID(bytes.Trim(line, stratum.LineJunk)), stratum.ErrNotUnderstood, s.manager.ids.server())
	}
	return nil
}

// oddPoolLine returns an odd line of a pool in canonical form, or nil if it has
// none.
func (s *Session) oddPoolLine(from *link, line []byte) []byte {
	canonical, err := stratum.CanonicalLine(line)
	if err != nil {
		// Some pools send a string id back without its quotes.
		if at, ok := stratum.LooseID(line); ok {
			if asked, _ := s.requests.Find(from.tag, line[at.Start:at.End]); asked >= 0 {
				canonical, err = stratum.CanonicalLine(stratum.WithID(line, at, s.requests.ID(asked)))
			}
		}
	}
	if err == nil {
		return canonical
	}
	if len(bytes.Trim(line, stratum.LineJunk)) > 0 {
		s.manager.monitor.dropped[dropNotJSON].Add(1)
	}
	return nil
}

// plainAnswer returns an answer without the request that some pools repeat in it. A
// miner would take the answer for a request of the pool.
func (s *Session) plainAnswer(line []byte, sc *stratum.ScannedLine) []byte {
	if !sc.IsAnswerWithMethod(line) {
		return line
	}
	r := &stratum.Response{Result: sc.Value(line, stratum.MemberResult), Error: sc.Value(line, stratum.MemberError)}
	line = s.dialect().AppendForwarded(nil, sc.ID(line), r)
	*sc = stratum.ScanPoolLine(line)
	return line
}
