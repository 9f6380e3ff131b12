package stratum

import (
	"bytes"
	"strconv"
)

// The switcher's own requests to a pool carry integers that miners do not use:
// many pools refuse ids of any other kind, and echo them in forms of their own.

const (
	FirstOwnID = 2_147_400_000
	LastOwnID  = 1<<31 - 1
)

// maxAliases bounds how many requests of a miner wait under own ids on a link.
const maxAliases = 256

// The own ids of earlier builds. Links taken over from them may still owe
// answers to these.
const (
	FormerConfigure = `"configure"`
	FormerSuggest   = `"suggest"`
	FormerWorker    = `"worker"`
)

// OwnRequests are a link's own requests without an answer yet. Each id is used
// once on a link. A nil one has none.
type OwnRequests struct {
	next    uint32
	pending []OwnRequest
	aliases int // how many of them are a miner's
}

// OwnRequest is a request under an own id: the switcher's, or a miner's whose
// id is that of an unanswered own one.
type OwnRequest struct {
	ID    uint32
	Alias []byte `json:",omitempty"` // the miner's id; nil: the miner gets no answer

	// Capabilities: the answer says whether the pool answers an agent's shares.
	Capabilities bool `json:",omitempty"`
	// Configure: the answer says which version bits may be rolled.
	Configure bool `json:",omitempty"`
}

func NewOwnRequests() *OwnRequests { return &OwnRequests{next: FirstOwnID} }

// OwnRequestsState is a link's OwnRequests in runtime.json.
type OwnRequestsState struct {
	Next    uint32
	Pending []OwnRequest `json:",omitempty"`
}

// State gives the requests the form in which an upgrade takes them along.
func (o *OwnRequests) State() *OwnRequestsState {
	if o == nil {
		return nil
	}
	return &OwnRequestsState{o.next, o.pending}
}

// Requests is the reverse of State. On nil it gives requests of a new link.
func (st *OwnRequestsState) Requests() *OwnRequests {
	o := NewOwnRequests()
	if st == nil {
		return o // a link of an earlier build, whose ids were words
	}
	o.next = max(st.Next, FirstOwnID)
	o.pending = st.Pending
	for _, r := range o.pending {
		if r.Alias != nil {
			o.aliases++
		}
	}
	return o
}

// Issue returns an id for one request whose answer the caller waits for itself.
// Without one left it reports false.
func (o *OwnRequests) Issue() (uint32, bool) {
	if o.next > LastOwnID {
		return 0, false
	}
	o.next++
	return o.next - 1, true
}

// Issued reports whether id was given out, be its request answered or not.
func (o *OwnRequests) Issued(raw []byte) bool {
	if o == nil || o.next == FirstOwnID || len(raw) < 10 {
		return false
	}
	id, ok := OwnIDOf(raw)
	return ok && id < o.next
}

// Expect notes that the answer to id is still to come, and not for the miner.
func (o *OwnRequests) Expect(id uint32) { o.pending = append(o.pending, OwnRequest{ID: id}) }

// ExpectCapabilities is expect for agent.get_capabilities.
func (o *OwnRequests) ExpectCapabilities(id uint32) {
	o.pending = append(o.pending, OwnRequest{ID: id, Capabilities: true})
}

// ExpectConfigure is expect for mining.configure.
func (o *OwnRequests) ExpectConfigure(id uint32) {
	o.pending = append(o.pending, OwnRequest{ID: id, Configure: true})
}

// Take removes the request that raw answers. It reports false if that is none
// of the own ones.
func (o *OwnRequests) Take(raw []byte) (r OwnRequest, ok bool) {
	at := o.Find(raw)
	if at < 0 {
		return OwnRequest{}, false
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

// Find returns where the request with the value of raw stands, -1 if there is
// none.
func (o *OwnRequests) Find(raw []byte) int {
	if o == nil || len(o.pending) == 0 {
		return -1
	}
	id, ok := OwnIDOf(raw)
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

// Has reports whether the request with the value of raw is not answered yet.
func (o *OwnRequests) Has(raw []byte) bool { return o.Find(raw) >= 0 }

// Alias gives a miner's request another id on the link, which is none of the
// taken ones. It reports false if no id is left.
func (o *OwnRequests) Alias(id []byte, taken func(fresh []byte) bool) ([]byte, bool) {
	if o.aliases == maxAliases || len(id) > MaxRequestID {
		return nil, false
	}
	for {
		own, ok := o.Issue()
		if !ok {
			return nil, false
		}
		fresh := OwnIDText(own)
		if taken(fresh) {
			continue
		}
		o.pending = append(o.pending, OwnRequest{ID: own, Alias: bytes.Clone(id)})
		o.aliases++
		return fresh, true
	}
}

// MinersID returns the id that the miner gave to the request that went out under
// this one.
func (o *OwnRequests) MinersID(id []byte) []byte {
	if at := o.Find(id); at >= 0 && o.pending[at].Alias != nil {
		return o.pending[at].Alias
	}
	return id
}

// OwnIDOf reads an own id in whatever form a pool has given it.
func OwnIDOf(raw []byte) (uint32, bool) {
	n, ok := numberOf(raw)
	if !ok || n.negative {
		return 0, false
	}
	for ; n.exponent > 0 && n.mantissa <= LastOwnID; n.exponent-- {
		n.mantissa *= 10
	}
	if n.exponent != 0 || n.mantissa < FirstOwnID || n.mantissa > LastOwnID {
		return 0, false
	}
	return uint32(n.mantissa), true
}

// OwnIDText is the id as it stands in a request.
func OwnIDText(id uint32) []byte { return strconv.AppendUint(nil, uint64(id), 10) }
