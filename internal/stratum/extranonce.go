package stratum

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
)

// A miner's coinbase is coinb1 + extranonce1 + extranonce2 + coinb2. The miner
// keeps the extranonce1 X and the extranonce2 size m that it was given when it
// subscribed. Pools that were built for a switcher use X too. Other pools give an
// extranonce1 P and an extranonce2 size s. For these, jobs and shares are
// translated:
//
//	to the miner   coinb1' = coinb1 + P + padding
//	to the pool    extranonce2' = padding + X + extranonce2
//
// The padding has s - len(X) - m zero bytes. The coinbase, and with it the hash,
// is then the same on both sides. If a pool uses X but wants an extranonce2 longer
// than m bytes, the rest is zeros:
//
//	to the miner   coinb2' = zeros + coinb2
//	to the pool    extranonce2' = extranonce2 + zeros

// Shape is what a miner was given when it subscribed. The zero value stands for
// the chain's usual shape: the whole session ID and Extranonce2Size.
type Shape struct {
	Extranonce1 string `json:"X"` // hex
	Size        int    // of extranonce2, in bytes
}

// OrUsual returns the shape, or the chain's usual shape if it is the zero value.
func (e Shape) OrUsual(chain Chain, id uint32) Shape {
	if e.Extranonce1 == "" {
		return Shape{Extranonce1: chain.Extranonce(id), Size: Extranonce2Size}
	}
	return e
}

// Result returns the result for the miner's mining.subscribe as JSON.
func (e Shape) Result() []byte {
	return fmt.Appendf(nil, `[[["mining.set_difficulty","%s"],["mining.notify","%s"]],"%s",%d]`, e.Extranonce1, e.Extranonce1, e.Extranonce1, e.Size)
}

// Translation describes how the lines of one link are changed. All strings are hex.
type Translation struct {
	Coinb1 string // appended to coinb1
	Coinb2 string // put before coinb2
	Before string // put before the miner's extranonce2
	After  string // appended to the miner's extranonce2
	Digits int    // number of hex digits of the miner's extranonce2
}

// SizeError means that the pool's extranonce2 is too small for the session.
type SizeError struct{ Given, Needed int }

func (e *SizeError) Error() string {
	return fmt.Sprintf("pool gives extranonce2 size %d, this session needs %d", e.Given, e.Needed)
}

// Needs returns the size of extranonce2 that a pool that picks the extranonce1 has
// to give.
func (e Shape) Needs() int { return len(e.Extranonce1)/2 + e.Size }

// Translate returns the translation for a pool that has picked the extranonce1 p,
// in hex, and the size of extranonce2.
func (e Shape) Translate(p string, size int) (*Translation, error) {
	needed := e.Needs()
	if size < needed {
		return nil, &SizeError{size, needed}
	}
	padding := strings.Repeat("00", size-needed)
	return &Translation{Coinb1: p + padding, Before: padding + e.Extranonce1, Digits: 2 * e.Size}, nil
}

// Fill returns the translation for a pool that took the session's extranonce and
// whose extranonce2 is larger than the miner's. It returns nil if both have the
// same size.
func (e Shape) Fill(size int) (*Translation, error) {
	if size < e.Size {
		return nil, &SizeError{size, e.Size}
	}
	if size == e.Size {
		return nil, nil
	}
	zeros := strings.Repeat("00", size-e.Size)
	return &Translation{Coinb2: zeros, After: zeros, Digits: 2 * e.Size}, nil
}

// MaxGivenSize is the largest extranonce2 size that is accepted from a pool.
const MaxGivenSize = 32

// GivenExtranonce is the extranonce that a pool has picked for a link.
type GivenExtranonce struct {
	Extranonce1 string // hex
	Size        int    // of extranonce2
}

// ParseGiven reads the extranonce from the result of mining.subscribe, where it is
// the second and third element.
func ParseGiven(result json.RawMessage) (*GivenExtranonce, error) {
	var parts []json.RawMessage
	if JSON.Unmarshal(result, &parts) != nil || len(parts) < 3 {
		return nil, fmt.Errorf("pool answered subscribe with %s", Clip(result))
	}
	return NewGiven(parts[1], parts[2])
}

// NewGiven reads the extranonce1 and the size that a pool has sent with
// mining.subscribe or mining.set_extranonce.
func NewGiven(extranonce1, size json.RawMessage) (*GivenExtranonce, error) {
	var a GivenExtranonce
	var ok bool
	if a.Extranonce1, ok = JsonString(extranonce1); !ok || len(a.Extranonce1) > 64 {
		return nil, fmt.Errorf("pool gave extranonce %s", Clip(extranonce1))
	}
	if _, err := hex.DecodeString(a.Extranonce1); err != nil {
		return nil, fmt.Errorf("pool gave extranonce %q, which is not hex", a.Extranonce1)
	}
	if a.Size, ok = givenSize(size); !ok || a.Size > MaxGivenSize {
		return nil, fmt.Errorf("pool gave extranonce2 size %s", Clip(size))
	}
	return &a, nil
}

// givenSize reads an extranonce2 size, which must be a number.
func givenSize(raw json.RawMessage) (int, bool) {
	size, ok := wholeNumber(raw)
	return int(size), ok && raw[0] != '"'
}

// AppendJob appends a mining.notify line to out, translated for the miner. It
// reports whether the line was understood; if not, it appends nothing.
func (t *Translation) AppendJob(out, line []byte) ([]byte, bool) {
	var c1, c2 span
	if !FindParams(line, nil, nil, &c1, &c2) {
		return out, false
	}
	out = append(out, line[:c1.End]...)
	out = append(out, t.Coinb1...)
	out = append(out, line[c1.End:c2.Start]...)
	out = append(out, t.Coinb2...)
	return append(out, line[c2.Start:]...), true
}

// AppendShare appends a mining.submit line to out, translated for the pool. If
// rename is not nil, it returns the worker's name as the pool knows it, as JSON
// without quotes, or nil if the pool cannot know it. AppendShare reports whether the line
// was understood; if not, it appends nothing. A nil Translation only renames the worker.
func (t *Translation) AppendShare(out, line []byte, rename func(raw []byte) []byte) ([]byte, bool) {
	var worker, e2 span
	if !FindParams(line, &worker, nil, &e2) {
		return out, false
	}
	count := line[e2.Start:e2.End]
	if t != nil && !IsHex(count, t.Digits) {
		text, _ := JsonString(line[e2.Start-1 : e2.End+1])
		if count = []byte(text); !IsHex(count, t.Digits) { // text has no escapes
			return out, false
		}
	}
	at := 0
	if rename != nil {
		name := rename(line[worker.Start:worker.End])
		if name == nil {
			return out, false
		}
		out = append(out, line[:worker.Start]...)
		out = append(out, name...)
		at = worker.End
	}
	if t != nil {
		out = append(out, line[at:e2.Start]...)
		out = append(out, t.Before...)
		out = append(out, count...)
		out = append(out, t.After...)
		at = e2.End
	}
	return append(out, line[at:]...), true
}

// IsHex reports whether b consists of exactly this number of hex digits.
func IsHex(b []byte, digits int) bool {
	if len(b) != digits {
		return false
	}
	for _, c := range b {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
			return false
		}
	}
	return true
}

// AppendSetExtranonce appends mining.set_extranonce to b.
func AppendSetExtranonce(b []byte, g GivenExtranonce) []byte {
	return fmt.Appendf(b, `{"id":null,"method":"mining.set_extranonce","params":["%s",%d]}`+"\n", g.Extranonce1, g.Size)
}
