package stratum

import (
	"bytes"
	"slices"
	"strconv"
)

// The ids of the switcher's own requests to a pool are integers that miners do not
// use. Many pools refuse ids that are not integers, or change them in the answer.

const (
	FirstOwnID = 2_147_400_000
	LastOwnID  = 1<<31 - 1
)

// maxAliases bounds how many unanswered requests of a miner have one of the
// switcher's ids on a link.
const maxAliases = 256

// maxRemembered is how many of these may be requests that were remembered.
const maxRemembered = maxAliases / 2

// Earlier builds used these ids for their own requests. Links that were taken over
// from them may still owe answers to these.
const (
	FormerConfigure = `"configure"`
	FormerSuggest   = `"suggest"`
	FormerWorker    = `"worker"`
)

// OwnRequests holds the unanswered requests of a link that have one of the
// switcher's ids. Each id is used once on a link. It also holds the pool's
// requests that the miner may answer. The zero value is empty and issues ids from
// FirstOwnID on. An empty OwnRequests takes 16 bytes.
type OwnRequests struct {
	pending *[]OwnRequest // nil if there are none
	next    uint32        // the id to issue next; 0 stands for FirstOwnID
	aliases uint16        // how many of pending are requests of the miner

	// Former counts the outstanding answers to the requests of an earlier build, for
	// a link that was taken over from it.
	Former uint16
}

// OwnRequest is a request with one of the switcher's ids. It is the switcher's own
// request, or a miner's request whose id the switcher had to replace because one of
// its own unanswered requests already had it.
type OwnRequest struct {
	ID    uint32
	Alias []byte `json:",omitempty"` // the miner's id, or nil for the switcher's own request

	// Capabilities is set for agent.get_capabilities. The answer shows whether the
	// pool answers an agent's shares.
	Capabilities bool `json:",omitempty"`
	// Configure is set for mining.configure. The answer contains the version bits
	// that may be rolled.
	Configure bool `json:",omitempty"`

	// PoolRequest is the id of a request that the pool has sent to the miner. ID is
	// 0 for such a request.
	PoolRequest []byte `json:"FromPool,omitempty"`
}

// maxPoolRequests bounds how many requests of a pool are kept until the miner answers
// them. Most miners answer few of them or none.
const maxPoolRequests = 8

// AddPoolRequest records a request that the pool has sent to the miner. If there are
// maxPoolRequests already, the oldest one is forgotten.
func (o *OwnRequests) AddPoolRequest(id []byte) {
	if len(id) == 0 || len(id) > MaxRequestID {
		return
	}
	n, oldest := 0, -1
	for i, r := range o.list() {
		if r.PoolRequest != nil {
			if n++; oldest < 0 {
				oldest = i
			}
		}
	}
	if n == maxPoolRequests {
		o.remove(oldest)
	}
	o.expect(OwnRequest{PoolRequest: bytes.Clone(id)})
}

// TakePoolRequest removes the pool's request with this id, which the miner has
// answered. It reports false if there is none.
func (o *OwnRequests) TakePoolRequest(id []byte) bool {
	for i, r := range o.list() {
		if r.PoolRequest != nil && SameID(r.PoolRequest, id) {
			o.remove(i)
			return true
		}
	}
	return false
}

func NewOwnRequests() OwnRequests { return OwnRequests{next: FirstOwnID} }

// OwnRequestsState is a link's OwnRequests in runtime.json.
type OwnRequestsState struct {
	Next    uint32
	Pending []OwnRequest `json:",omitempty"`
}

// State returns the requests in the form of runtime.json.
func (o *OwnRequests) State() *OwnRequestsState {
	if o.next == 0 {
		return nil
	}
	return &OwnRequestsState{o.next, o.list()}
}

// Requests restores what State has returned. A nil state gives the requests of a new
// link.
func (st *OwnRequestsState) Requests() OwnRequests {
	o := NewOwnRequests()
	if st == nil {
		return o // the link is from an earlier build, which used words as ids
	}
	o.next = max(st.Next, FirstOwnID)
	for _, r := range st.Pending {
		o.expect(r)
	}
	return o
}

// list returns the unanswered requests.
func (o *OwnRequests) list() []OwnRequest {
	if o.pending == nil {
		return nil
	}
	return *o.pending
}

// expect adds an unanswered request.
func (o *OwnRequests) expect(r OwnRequest) {
	if o.pending == nil {
		o.pending = new([]OwnRequest)
	}
	*o.pending = append(*o.pending, r)
	if r.Alias != nil {
		o.aliases++
	}
}

// Issue returns an unused id for one request and reports false if none is left. It
// does not record the request: the caller either waits for the answer itself or calls
// Expect.
func (o *OwnRequests) Issue() (uint32, bool) {
	if o.next == 0 {
		o.next = FirstOwnID
	}
	if o.next > LastOwnID {
		return 0, false
	}
	o.next++
	return o.next - 1, true
}

// Issued reports whether an id was used on the link. Its request may already have been
// answered.
func (o *OwnRequests) Issued(raw []byte) bool {
	if o.next <= FirstOwnID || len(raw) < 10 {
		return false
	}
	id, ok := OwnIDOf(raw)
	return ok && id < o.next
}

// Expect records that the request with this id is unanswered. Its answer will not be
// passed on to the miner.
func (o *OwnRequests) Expect(id uint32) { o.expect(OwnRequest{ID: id}) }

// ExpectCapabilities is Expect for agent.get_capabilities.
func (o *OwnRequests) ExpectCapabilities(id uint32) {
	o.expect(OwnRequest{ID: id, Capabilities: true})
}

// ExpectConfigure is Expect for mining.configure.
func (o *OwnRequests) ExpectConfigure(id uint32) {
	o.expect(OwnRequest{ID: id, Configure: true})
}

// Take removes the request with the id raw. It reports false if there is none.
func (o *OwnRequests) Take(raw []byte) (r OwnRequest, ok bool) {
	at := o.Find(raw)
	if at < 0 {
		return OwnRequest{}, false
	}
	if r = (*o.pending)[at]; r.Alias != nil {
		o.aliases--
	}
	o.remove(at)
	return r, true
}

// remove removes the request at index at of the list.
func (o *OwnRequests) remove(at int) {
	if list := *o.pending; len(list) == 1 {
		o.pending = nil
	} else {
		*o.pending = slices.Delete(list, at, at+1)
	}
}

// Oldest returns the first request that is unanswered.
func (o *OwnRequests) Oldest() (id uint32, ok bool) {
	for _, r := range o.list() {
		if r.PoolRequest == nil {
			return r.ID, true
		}
	}
	return 0, false
}

// Find returns the index of the request whose id has the value of raw, or -1.
func (o *OwnRequests) Find(raw []byte) int {
	if o.pending == nil {
		return -1
	}
	id, ok := OwnIDOf(raw)
	if !ok {
		return -1
	}
	for i, r := range *o.pending {
		if r.ID == id {
			return i
		}
	}
	return -1
}

// Has reports whether a request whose id has the value of raw is unanswered.
func (o *OwnRequests) Has(raw []byte) bool { return o.Find(raw) >= 0 }

// Alias returns another id for a miner's request on the link and records the request.
// It skips ids that are taken, and reports false if no id is left.
func (o *OwnRequests) Alias(id []byte, taken func(fresh []byte) bool) ([]byte, bool) {
	if o.aliases >= maxAliases || len(id) > MaxRequestID {
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
		o.expect(OwnRequest{ID: own, Alias: bytes.Clone(id)})
		return fresh, true
	}
}

// Remember records a request of the miner whose id is an issued one and for which the
// queue has no room. Otherwise its answer would be taken for one that nobody asked for.
func (o *OwnRequests) Remember(id []byte) {
	if !o.Issued(id) || o.aliases >= maxRemembered {
		return
	}
	if at := o.Find(id); at < 0 || o.list()[at].Remembered() {
		own, _ := OwnIDOf(id)
		o.expect(OwnRequest{ID: own, Alias: bytes.Clone(id)})
	}
}

// Remembered reports whether the request was recorded by Remember. It was sent to the pool
// with the miner's own id.
func (r *OwnRequest) Remembered() bool {
	own, ok := OwnIDOf(r.Alias)
	return ok && own == r.ID
}

// AnswerMiner makes the miner's the switcher's own request with this id: its answer is
// passed on with the miner's id.
func (o *OwnRequests) AnswerMiner(own uint32, id []byte) {
	for i, r := range o.list() {
		if r.ID == own && r.PoolRequest == nil && r.Alias == nil {
			(*o.pending)[i].Alias = id
			o.aliases++
			return
		}
	}
}

// MinersID returns the id that the miner gave to the request that was sent to the pool
// with this id.
func (o *OwnRequests) MinersID(id []byte) []byte {
	if at := o.Find(id); at >= 0 && (*o.pending)[at].Alias != nil {
		return (*o.pending)[at].Alias
	}
	return id
}

// OwnIDOf reads one of the switcher's ids in any form in which a pool may send it.
func OwnIDOf(raw []byte) (uint32, bool) {
	n, ok := idNumber(raw)
	if !ok {
		return 0, false
	}
	id, ok := n.whole()
	if !ok || id < FirstOwnID || id > LastOwnID {
		return 0, false
	}
	return uint32(id), true
}

// OwnIDText returns the id as it is written in a request.
func OwnIDText(id uint32) []byte { return strconv.AppendUint(nil, uint64(id), 10) }
