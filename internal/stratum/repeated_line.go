package stratum

import "bytes"

// RepeatedLine remembers the latest job of a pool. Most pools send the same line to
// all their miners at once, so the line has to be scanned only once. A RepeatedLine
// belongs to one loop.
type RepeatedLine struct {
	line []byte // including its "\n"; empty if no line is remembered
	sc   ScannedLine
}

const (
	// minRepeated is the shortest line that is worth remembering.
	minRepeated = 256
	// maxRepeated is the longest line that is remembered. It bounds the memory.
	maxRepeated = 8 << 10
)

// Next returns the first line of b and the result of ScanPoolLine for it if it is the
// remembered line, otherwise nil. The result is valid until the next Remember.
func (r *RepeatedLine) Next(b []byte) ([]byte, *ScannedLine) {
	n := len(r.line)
	if n == 0 || len(b) < n || !bytes.Equal(b[:n], r.line) {
		return nil, nil
	}
	return b[:n], &r.sc
}

// Remember replaces the remembered line, unless the new one is too short or too long.
func (r *RepeatedLine) Remember(line []byte, sc *ScannedLine) {
	if len(line) >= minRepeated && len(line) <= maxRepeated {
		r.line, r.sc = append(r.line[:0], line...), *sc
	}
}
