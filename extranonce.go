package main

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

// extranonceShape is what a miner was given at its subscribe. The zero value
// stands for the chain's own: the whole session ID and extranonce2Size.
type extranonceShape struct {
	X    string // extranonce1, hex
	Size int    // of extranonce2, bytes
}

// extranoncePlan is which shape new miners get, by the configuration.
type extranoncePlan struct {
	width int // bytes of X; 0: the chain's own shape
	size  int
}

const (
	// With pools of both kinds X stays the session ID, and half of what
	// session pools count in is left for the miner.
	mixedSize = 4
	// With pools that pick their own extranonce only, X need not tell miners
	// apart: one byte for X and three for the miner fit pools that give 4. The
	// size is what sizeSurvey begins with.
	poolOnlyWidth = 1
	poolOnlySize  = 3
)

// planExtranonce decides by the pools' kinds.
func planExtranonce(c *Config) extranoncePlan {
	own, session := 0, 0
	for _, server := range c.StratumServerMap {
		if server.ExtraNonce == extranonceOfPool {
			own++
		} else {
			session++
		}
	}
	var plan extranoncePlan
	switch {
	case own == 0:
		return plan
	case session > 0:
		plan = extranoncePlan{width: 4, size: mixedSize}
	default:
		plan = extranoncePlan{width: poolOnlyWidth, size: poolOnlySize}
	}
	if c.ExtraNonce2Size > 0 {
		plan.size = c.ExtraNonce2Size
	}
	return plan
}

// sizeWarning is about a configured size that not every miner can count in;
// empty if there is nothing to say.
func sizeWarning(c *Config) string {
	if planExtranonce(c).width == 0 || c.ExtraNonce2Size == 0 || c.ExtraNonce2Size >= mixedSize {
		return ""
	}
	return fmt.Sprintf("ExtraNonce2Size is %d: some miner programs and marketplaces need 4 or more, see docs/pools.md", c.ExtraNonce2Size)
}

// shapeFor is the shape of a new session. Agents have their own way of dividing
// the work among their miners and keep the chain's.
func (p extranoncePlan) shapeFor(id uint32, agent bool) extranonceShape {
	if p.width == 0 || agent {
		return extranonceShape{}
	}
	x := fmt.Sprintf("%08x", id)
	return extranonceShape{X: x[8-2*p.width:], Size: p.size}
}

// of gives the zero shape its meaning.
func (e extranonceShape) of(chain chainType, id uint32) extranonceShape {
	if e.X == "" {
		return extranonceShape{X: chain.extranonce(id), Size: extranonce2Size}
	}
	return e
}

// result is the result of the miner's mining.subscribe.
func (e extranonceShape) result() []byte {
	return fmt.Appendf(nil, `[[["mining.set_difficulty","%s"],["mining.notify","%s"]],"%s",%d]`, e.X, e.X, e.X, e.Size)
}

// translation is how the lines of one link are changed. All texts are hex.
type translation struct {
	Coinb1 string // appended to coinb1
	Coinb2 string // put before coinb2
	Before string // put before the miner's extranonce2
	After  string // appended to it
	Digits int    // of the miner's extranonce2
}

// sizeError: the pool's extranonce2 has no room for the session.
type sizeError struct{ given, needed int }

func (e *sizeError) Error() string {
	return fmt.Sprintf("pool gives extranonce2 size %d, this session needs %d", e.given, e.needed)
}

// translate gives the translation for a pool that picked extranonce1 p, hex,
// and the size of extranonce2.
func (e extranonceShape) translate(p string, size int) (*translation, error) {
	needed := len(e.X)/2 + e.Size
	if size < needed {
		return nil, &sizeError{size, needed}
	}
	padding := strings.Repeat("00", size-needed)
	return &translation{Coinb1: p + padding, Before: padding + e.X, Digits: 2 * e.Size}, nil
}

// fill gives the translation for a pool that took the session's extranonce and
// counts in more bytes than the miner; nil if none is needed.
func (e extranonceShape) fill(size int) (*translation, error) {
	if size < e.Size {
		return nil, &sizeError{size, e.Size}
	}
	if size == e.Size {
		return nil, nil
	}
	zeros := strings.Repeat("00", size-e.Size)
	return &translation{Coinb2: zeros, After: zeros, Digits: 2 * e.Size}, nil
}

// maxGivenSize is the largest extranonce2 that is taken from a pool.
const maxGivenSize = 32

// givenExtranonce is what a pool answered to mining.subscribe.
type givenExtranonce struct {
	Extranonce1 string // hex
	Size        int    // of extranonce2
}

// parseGiven reads result[1] and result[2].
func parseGiven(result json.RawMessage) (*givenExtranonce, error) {
	var parts []json.RawMessage
	if wireJSON.Unmarshal(result, &parts) != nil || len(parts) < 3 {
		return nil, fmt.Errorf("pool answered subscribe with %s", clip(result))
	}
	return newGiven(parts[1], parts[2])
}

// newGiven reads an extranonce1 and a size, as they come with
// mining.subscribe and mining.set_extranonce.
func newGiven(extranonce1, size json.RawMessage) (*givenExtranonce, error) {
	var a givenExtranonce
	var ok bool
	if a.Extranonce1, ok = jsonString(extranonce1); !ok || len(a.Extranonce1) > 64 {
		return nil, fmt.Errorf("pool gave extranonce %s", clip(extranonce1))
	}
	if _, err := hex.DecodeString(a.Extranonce1); err != nil {
		return nil, fmt.Errorf("pool gave extranonce %q, which is not hex", a.Extranonce1)
	}
	if wireJSON.Unmarshal(size, &a.Size) != nil || a.Size < 0 || a.Size > maxGivenSize {
		return nil, fmt.Errorf("pool gave extranonce2 size %s", clip(size))
	}
	return &a, nil
}

// appendJob appends a mining.notify line to out as the miner gets it. It
// reports whether the line could be understood; if not, nothing is appended.
func (t *translation) appendJob(out, line []byte) ([]byte, bool) {
	var c1, c2 span
	if !findParams(line, nil, nil, &c1, &c2) {
		return out, false
	}
	out = append(out, line[:c1.end]...)
	out = append(out, t.Coinb1...)
	out = append(out, line[c1.end:c2.start]...)
	out = append(out, t.Coinb2...)
	return append(out, line[c2.start:]...), true
}

// appendShare appends a mining.submit line to out as the pool gets it. rename,
// if not nil, gives the worker's name, as JSON without quotes, that the pool
// knows. It reports whether the line could be understood; if not, nothing is
// appended. A nil translation only renames.
func (t *translation) appendShare(out, line []byte, rename func(raw []byte) []byte) ([]byte, bool) {
	var worker, e2 span
	if !findParams(line, &worker, nil, &e2) {
		return out, false
	}
	count := line[e2.start:e2.end]
	if t != nil && !isHex(count, t.Digits) {
		text, _ := jsonString(line[e2.start-1 : e2.end+1])
		if count = []byte(text); !isHex(count, t.Digits) { // it was written with escapes
			return out, false
		}
	}
	at := 0
	if rename != nil {
		out = append(out, line[:worker.start]...)
		out = append(out, rename(line[worker.start:worker.end])...)
		at = worker.end
	}
	if t != nil {
		out = append(out, line[at:e2.start]...)
		out = append(out, t.Before...)
		out = append(out, count...)
		out = append(out, t.After...)
		at = e2.end
	}
	return append(out, line[at:]...), true
}

func isHex(b []byte, digits int) bool {
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
