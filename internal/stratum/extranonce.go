package stratum

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
)

// A miner's coinbase is coinb1 + extranonce1 + extranonce2 + coinb2. The miner
// keeps the extranonce1 X and the size m of extranonce2 that it was given when
// it subscribed. Pools built for a switcher take X as their own. Others give an
// extranonce1 P and a size s; then jobs and shares are translated:
//
//	to the miner   coinb1' = coinb1 + P + padding
//	to the pool    extranonce2' = padding + X + extranonce2
//
// with a padding of s - len(X) - m zero bytes, so that the coinbase, and with
// it the hash, is the same on both sides. A pool that took X and wants more
// than m bytes gets the rest as zeros:
//
//	to the miner   coinb2' = zeros + coinb2
//	to the pool    extranonce2' = extranonce2 + zeros

// Shape is what a miner was given at its subscribe. The zero value
// stands for the chain's own: the whole session ID and Extranonce2Size.
type Shape struct {
	X    string // extranonce1, hex
	Size int    // of extranonce2, bytes
}

// Of gives the zero shape its meaning.
func (e Shape) Of(chain Chain, id uint32) Shape {
	if e.X == "" {
		return Shape{X: chain.Extranonce(id), Size: Extranonce2Size}
	}
	return e
}

// Result is the result of the miner's mining.subscribe.
func (e Shape) Result() []byte {
	return fmt.Appendf(nil, `[[["mining.set_difficulty","%s"],["mining.notify","%s"]],"%s",%d]`, e.X, e.X, e.X, e.Size)
}

// Translation is how the lines of one link are changed. All texts are hex.
type Translation struct {
	Coinb1 string // appended to coinb1
	Coinb2 string // put before coinb2
	Before string // put before the miner's extranonce2
	After  string // appended to it
	Digits int    // of the miner's extranonce2
}

// SizeError: the pool's extranonce2 has no room for the session.
type SizeError struct{ Given, Needed int }

func (e *SizeError) Error() string {
	return fmt.Sprintf("pool gives extranonce2 size %d, this session needs %d", e.Given, e.Needed)
}

// Translate gives the translation for a pool that picked extranonce1 p, hex,
// and the size of extranonce2.
func (e Shape) Translate(p string, size int) (*Translation, error) {
	needed := len(e.X)/2 + e.Size
	if size < needed {
		return nil, &SizeError{size, needed}
	}
	padding := strings.Repeat("00", size-needed)
	return &Translation{Coinb1: p + padding, Before: padding + e.X, Digits: 2 * e.Size}, nil
}

// Fill gives the translation for a pool that took the session's extranonce and
// counts in more bytes than the miner; nil if none is needed.
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

// MaxGivenSize is the largest extranonce2 that is taken from a pool.
const MaxGivenSize = 32

// GivenExtranonce is what a pool answered to mining.subscribe.
type GivenExtranonce struct {
	Extranonce1 string // hex
	Size        int    // of extranonce2
}

// ParseGiven reads result[1] and result[2].
func ParseGiven(result json.RawMessage) (*GivenExtranonce, error) {
	var parts []json.RawMessage
	if JSON.Unmarshal(result, &parts) != nil || len(parts) < 3 {
		return nil, fmt.Errorf("pool answered subscribe with %s", Clip(result))
	}
	return NewGiven(parts[1], parts[2])
}

// NewGiven reads an extranonce1 and a size, as they come with
// mining.subscribe and mining.set_extranonce.
func NewGiven(extranonce1, size json.RawMessage) (*GivenExtranonce, error) {
	var a GivenExtranonce
	var ok bool
	if a.Extranonce1, ok = JsonString(extranonce1); !ok || len(a.Extranonce1) > 64 {
		return nil, fmt.Errorf("pool gave extranonce %s", Clip(extranonce1))
	}
	if _, err := hex.DecodeString(a.Extranonce1); err != nil {
		return nil, fmt.Errorf("pool gave extranonce %q, which is not hex", a.Extranonce1)
	}
	if JSON.Unmarshal(size, &a.Size) != nil || a.Size < 0 || a.Size > MaxGivenSize {
		return nil, fmt.Errorf("pool gave extranonce2 size %s", Clip(size))
	}
	return &a, nil
}

// AppendJob appends a mining.notify line to out as the miner gets it. It
// reports whether the line could be understood; if not, nothing is appended.
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

// AppendShare appends a mining.submit line to out as the pool gets it. rename,
// if not nil, gives the worker's name, as JSON without quotes, that the pool
// knows. It reports whether the line could be understood; if not, nothing is
// appended. A nil translation only renames.
func (t *Translation) AppendShare(out, line []byte, rename func(raw []byte) []byte) ([]byte, bool) {
	var worker, e2 span
	if !FindParams(line, &worker, nil, &e2) {
		return out, false
	}
	count := line[e2.Start:e2.End]
	if t != nil && !IsHex(count, t.Digits) {
		text, _ := JsonString(line[e2.Start-1 : e2.End+1])
		if count = []byte(text); !IsHex(count, t.Digits) { // it was written with escapes
			return out, false
		}
	}
	at := 0
	if rename != nil {
		out = append(out, line[:worker.Start]...)
		out = append(out, rename(line[worker.Start:worker.End])...)
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
