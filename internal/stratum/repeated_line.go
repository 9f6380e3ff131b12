package stratum

import "bytes"

// RepeatedLine remembers the latest job of a pool: most pools send the same line
// to all their miners at once, so that it is searched for its end and read only
// once. It belongs to one loop.
type RepeatedLine struct {
	line []byte // with its end; empty: none
	sc   ScannedLine
}

const (
	// minRepeated is the shortest line that is worth remembering.
	minRepeated = 256
	// maxRepeated bounds the memory that it takes.
	maxRepeated = 8 << 10
)

// Next returns the first line of b and what ScanPoolLine finds in it, if it is
// the line remembered, or else nil.
func (r *RepeatedLine) Next(b []byte) ([]byte, *ScannedLine) {
	n := len(r.line)
	if n == 0 || len(b) < n || !bytes.Equal(b[:n], r.line) {
		return nil, nil
	}
	return b[:n], &r.sc
}

// Remember takes a line that was not the one remembered.
func (r *RepeatedLine) Remember(line []byte, sc *ScannedLine) {
	if len(line) >= minRepeated && len(line) <= maxRepeated {
		r.line, r.sc = append(r.line[:0], line...), *sc
	}
}
