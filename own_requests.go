package main

import (
	"bytes"
	"encoding/json"
	"strconv"
)

// The switcher's own requests to a pool carry integers that miners do not use:
// many pools refuse ids of any other kind, and echo them in forms of their own.

const (
	firstOwnID = 2_147_400_000
	lastOwnID  = 1<<31 - 1
)

// maxAliases bounds how many requests of a miner wait under own ids on a link.
const maxAliases = 256

// The own ids of earlier builds. Links taken over from them may still owe
// answers to these.
const (
	formerConfigure = `"configure"`
	formerSuggest   = `"suggest"`
	formerWorker    = `"worker"`
)

// ownRequests are a link's own requests without an answer yet. Each id is used
// once on a link. A nil one has none.
type ownRequests struct {
	next    uint32
	pending []ownRequest
	aliases int // how many of them are a miner's
}

// ownRequest is a request under an own id: the switcher's, or a miner's whose
// id is that of an unanswered own one.
type ownRequest struct {
	ID    uint32
	Alias []byte `json:",omitempty"` // the miner's id; nil: the miner gets no answer

	// Capabilities: the answer says whether the pool answers an agent's shares.
	Capabilities bool `json:",omitempty"`
	// Configure: the answer says which version bits may be rolled.
	Configure bool `json:",omitempty"`
}

func newOwnRequests() *ownRequests { return &ownRequests{next: firstOwnID} }

// state and requests carry them through an upgrade.
func (o *ownRequests) state() *ownState {
	if o == nil {
		return nil
	}
	return &ownState{o.next, o.pending}
}

func (st *ownState) requests() *ownRequests {
	o := newOwnRequests()
	if st == nil {
		return o // a link of an earlier build, whose ids were words
	}
	o.next = max(st.Next, firstOwnID)
	o.pending = st.Pending
	for _, r := range o.pending {
		if r.Alias != nil {
			o.aliases++
		}
	}
	return o
}

// issue returns an id for one request whose answer the caller waits for itself.
// Without one left it reports false.
func (o *ownRequests) issue() (uint32, bool) {
	if o.next > lastOwnID {
		return 0, false
	}
	o.next++
	return o.next - 1, true
}

// issued reports whether id was given out, be its request answered or not.
func (o *ownRequests) issued(raw []byte) bool {
	if o == nil || o.next == firstOwnID || len(raw) < 10 {
		return false
	}
	id, ok := ownIDOf(raw)
	return ok && id < o.next
}

// expect notes that the answer to id is still to come, and not for the miner.
func (o *ownRequests) expect(id uint32) { o.pending = append(o.pending, ownRequest{ID: id}) }

// expectCapabilities is expect for agent.get_capabilities.
func (o *ownRequests) expectCapabilities(id uint32) {
	o.pending = append(o.pending, ownRequest{ID: id, Capabilities: true})
}

// expectConfigure is expect for mining.configure.
func (o *ownRequests) expectConfigure(id uint32) {
	o.pending = append(o.pending, ownRequest{ID: id, Configure: true})
}

// take removes the request that raw answers. It reports false if that is none
// of the own ones.
func (o *ownRequests) take(raw []byte) (r ownRequest, ok bool) {
	at := o.find(raw)
	if at < 0 {
		return ownRequest{}, false
	}
	if r = o.pending[at]; r.Alias != nil {
		o.aliases--
	}
	o.pending = append(o.pending[:at], o.pending[at+1:]...)
	if len(o.pending) == 0 {
		o.pending = nil
	}
	return r, true
}

// find returns where the request with the value of raw stands, -1 if there is
// none.
func (o *ownRequests) find(raw []byte) int {
	if o == nil || len(o.pending) == 0 {
		return -1
	}
	id, ok := ownIDOf(raw)
	if !ok {
		return -1
	}
	for i, r := range o.pending {
		if r.ID == id {
			return i
		}
	}
	return -1
}

// minersID returns the id that the miner gave to the request that went out under
// this one.
func (o *ownRequests) minersID(id []byte) []byte {
	if at := o.find(id); at >= 0 && o.pending[at].Alias != nil {
		return o.pending[at].Alias
	}
	return id
}

// ownIDOf reads an own id in whatever form a pool has given it.
func ownIDOf(raw []byte) (uint32, bool) {
	n, ok := numberOf(raw)
	if !ok || n.negative {
		return 0, false
	}
	for ; n.exponent > 0 && n.mantissa <= lastOwnID; n.exponent-- {
		n.mantissa *= 10
	}
	if n.exponent != 0 || n.mantissa < firstOwnID || n.mantissa > lastOwnID {
		return 0, false
	}
	return uint32(n.mantissa), true
}

// ownIDText is the id as it stands in a request.
func ownIDText(id uint32) []byte { return strconv.AppendUint(nil, uint64(id), 10) }

// wireID returns the id under which a miner's request goes to a link: mostly the
// miner's own, but another one while a request of the switcher with the same
// value is not answered. It reports false if no id is left.
func (s *Session) wireID(to *link, id []byte) ([]byte, bool) {
	o := to.own
	if o.find(id) < 0 {
		return id, true
	}
	if o.aliases == maxAliases || len(id) > maxRequestID {
		return nil, false
	}
	for {
		own, ok := o.issue()
		if !ok {
			return nil, false
		}
		fresh := ownIDText(own)
		if at, _ := s.requests.find(to.tag, fresh); at >= 0 {
			continue // the miner has one of this value under way
		}
		o.pending = append(o.pending, ownRequest{ID: own, Alias: bytes.Clone(id)})
		o.aliases++
		return fresh, true
	}
}

// withID returns a copy of the line with another id.
func withID(line []byte, at span, id []byte) []byte { return replaceSpan(line, at, string(id)) }

// number is an id's value: mantissa times ten to the exponent, with no zero at
// the mantissa's end.
type number struct {
	mantissa uint64
	exponent int
	negative bool
}

// numberOf reads an id that is a number, or a text of one. Numbers too large to
// be compared exactly have none.
func numberOf(raw []byte) (n number, ok bool) {
	if len(raw) > 2 && raw[0] == '"' && raw[len(raw)-1] == '"' {
		raw = raw[1 : len(raw)-1]
	}
	if len(raw) > maxRequestID || !isNumber(raw) {
		return n, false
	}
	i := 0
	if raw[0] == '-' {
		n.negative, i = true, 1
	}
	fraction := false
	for ; i < len(raw) && raw[i]|0x20 != 'e'; i++ {
		if raw[i] == '.' {
			fraction = true
			continue
		}
		if n.mantissa > (1<<64-10)/10 {
			return n, false
		}
		n.mantissa = n.mantissa*10 + uint64(raw[i]-'0')
		if fraction {
			n.exponent--
		}
	}
	if i < len(raw) {
		if len(raw)-i > 5 {
			return n, false
		}
		exponent, err := strconv.Atoi(string(raw[i+1:]))
		if err != nil {
			return n, false
		}
		n.exponent += exponent
	}
	if n.mantissa == 0 {
		return number{}, true
	}
	for n.mantissa%10 == 0 {
		n.mantissa /= 10
		n.exponent++
	}
	return n, true
}

// sameID reports whether two ids have the same value, however they are written:
// pools answer 7 with "7" or 7.0, texts without their quotes or with other
// escapes, and lists with other spaces.
func sameID(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	if n, ok := numberOf(a); ok {
		m, ok := numberOf(b)
		return ok && n == m
	}
	if len(a) == 0 || len(b) == 0 {
		return false
	}
	if isList := a[0] == '[' || a[0] == '{'; isList || b[0] == '[' || b[0] == '{' {
		return a[0] == b[0] && bytes.Equal(compact(a), compact(b))
	}
	return bytes.Equal(idText(a), idText(b))
}

func compact(raw []byte) []byte {
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		return raw
	}
	return b.Bytes()
}

// idText is an id without quotes and escapes.
func idText(raw []byte) []byte {
	if len(raw) < 2 || raw[0] != '"' {
		return raw
	}
	if bytes.IndexByte(raw, '\\') >= 0 {
		if text, ok := jsonString(raw); ok {
			return []byte(text)
		}
	}
	return raw[1 : len(raw)-1]
}
