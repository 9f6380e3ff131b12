package stratum

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestRequestQueue(t *testing.T) {
	var q RequestQueue
	want := func(tag LinkTag, id string, at int, after bool) {
		t.Helper()
		if gotAt, gotAfter := q.Find(tag, []byte(id)); gotAt != at || gotAfter != after && at >= 0 {
			t.Fatalf("find(%d, %s) returns %d, %v, want %d, %v", tag, id, gotAt, gotAfter, at, after)
		}
	}
	want(1, "7", -1, false)
	q.PushShare(1, []byte("7"), 5)
	q.Push(1, []byte("7"))
	q.PushShare(2, []byte("7"), 5)
	q.PushShare(2, []byte(`"7"`), 5)
	q.Push(1, []byte("77"))
	want(1, "7", 0, false)
	want(2, "7", 8, true)
	want(2, `"7"`, 12, false)
	want(1, "77", 18, false)
	want(3, "7", -1, false)
	if n := q.Shares(1); n != 1 {
		t.Errorf("%d shares of link 1, want 1", n)
	}
	requests, generations := q.State()
	if again := NewRequestQueue(requests, generations); !bytes.Equal(again.b, q.b) {
		t.Errorf("the queue is %q after an upgrade, want %q as before", again.b, q.b)
	}
	if of := NewRequestQueue(requests, nil); len(of.b) != len(q.b) { // as an earlier build wrote it
		t.Errorf("the queue of an earlier build is read as %q", of.b)
	}
	for _, bad := range [][]byte{requests[:len(requests)-1], {1}, {1, 2, '3'}} {
		if of := NewRequestQueue(bad, generations); len(of.b) != 0 {
			t.Errorf("%q is read as %q", bad, of.b)
		}
	}
	if g, share := q.Remove(0); !share || g != 5 {
		t.Error("the first request counts as no share")
	}
	if _, share := q.Remove(0); share {
		t.Error("the second request counts as a share")
	}
	want(2, "7", 0, false)
}

// These ids are at and beyond the limits.
func TestRequestQueueLimits(t *testing.T) {
	var q RequestQueue
	longest := bytes.Repeat([]byte("i"), MaxRequestID)
	q.PushShare(1, longest, 5)
	if at, _ := q.Find(1, longest); at != 0 {
		t.Error("an id of the greatest length is not kept")
	}
	if _, share := q.Remove(0); !share {
		t.Error("the id's mark as a share is lost")
	}
	q.PushShare(1, append(longest, 'i'), 5)
	q.PushShare(1, nil, 5)
	if len(q.b) != 0 {
		t.Errorf("%q is kept, want nothing", q.b)
	}
	pushed := 0
	for i := range 2 * MaxRequests {
		before := len(q.b)
		q.PushShare(LinkTag(i%3), fmt.Appendf(nil, "%d", i), 5)
		if len(q.b) > before {
			pushed++
		}
	}
	if len(q.b) > MaxRequests || len(q.b) < MaxRequests-MaxRequestID {
		t.Errorf("%d bytes are kept, which is too much", len(q.b))
	}
	if n := q.Shares(0) + q.Shares(1) + q.Shares(2); n != pushed {
		t.Errorf("%d requests are counted and %d kept", n, pushed)
	}
}

// The queue is compared with a plain list under random calls.
func TestRequestQueueModel(t *testing.T) {
	type entry struct {
		tag   LinkTag
		id    string
		share bool
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	var q RequestQueue
	var model []entry
	for range 20000 {
		tag, id := LinkTag(rng.IntN(3)), fmt.Sprint(rng.IntN(12))
		switch rng.IntN(7) {
		case 0, 1, 2:
			if len(q.b) < 1000 {
				share := rng.IntN(2) == 0
				if share {
					q.PushShare(tag, []byte(id), 5)
				} else {
					q.Push(tag, []byte(id))
				}
				model = append(model, entry{tag, id, share})
			}
		default:
			i := slices.IndexFunc(model, func(e entry) bool { return e.tag == tag && e.id == id })
			first := slices.IndexFunc(model, func(e entry) bool { return e.id == id })
			at, after := q.Find(tag, []byte(id))
			if (at >= 0) != (i >= 0) || i >= 0 && after != (first < i) {
				t.Fatalf("find(%d, %s) returns %d, %v in %v", tag, id, at, after, model)
			}
			if i >= 0 {
				if _, share := q.Remove(at); share != model[i].share {
					t.Fatalf("removed %v, which counts as a share: %v", model[i], share)
				}
				model = slices.Delete(model, i, i+1)
			}
		}
	}
}

func TestLineID(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{`{"id":7,"result":true}`, `7`},
		{`{"id": -1.5e3 ,"result":true}`, `-1.5e3`},
		{`{"result":true,"id":7}`, `7`},
		{`{"result":true,"id" : "x\"y,}" }`, `"x\"y,}"`},
		{`{"id":null,"result":true}`, ``},
		{`{"result":true}`, ``},
		{`{"id":"never ends`, ``},
		{`{"id":`, ``},
		{`{"id":[1,2],"result":true}`, `[1,2]`},
		{`{"id":{"a":1},"result":true}`, `{"a":1}`},
		{`{"id":true,"result":false}`, `true`},
		{`{"result":["\"id\":5"],"id":6}`, `6`},
	} {
		if got := LineID([]byte(c.line)); string(got) != c.want {
			t.Errorf("%s: got id %q, want %q", c.line, got, c.want)
		}
	}
}

// Marks survive an upgrade. A share has none, also when it is cleared.
func TestRequestQueueMarks(t *testing.T) {
	var q RequestQueue
	q.PushMarked(1, []byte("1"), MarkConfigure)
	q.PushShare(1, []byte("2"), 2)
	q.Push(1, []byte("3"))
	q.PushMarked(1, []byte("4"), MarkAuthorize)
	q = NewRequestQueue(q.State())
	at, _ := q.Find(1, []byte("2"))
	for range 2 {
		var marks []RequestMark
		for i := 0; i < q.Size(); {
			marks = append(marks, q.MarkAt(i))
			_, _, i = q.At(i)
		}
		if want := []RequestMark{MarkConfigure, 0, 0, MarkAuthorize}; !slices.Equal(marks, want) {
			t.Errorf("got marks %v, want %v", marks, want)
		}
		q.ClearShare(at)
	}
}

// The requests of a pool are limited, survive an upgrade, and do not count as
// requests of the switcher.
func TestOwnRequestsFromPool(t *testing.T) {
	o := NewOwnRequests()
	for i := range maxPoolRequests + 2 {
		o.AddPoolRequest(fmt.Append(nil, i))
	}
	own, _ := o.Issue()
	o.Expect(own)
	o.AddPoolRequest(nil)
	o.AddPoolRequest(bytes.Repeat([]byte("1"), MaxRequestID+1))
	o = o.State().Requests()
	for i, want := range []bool{false, false, true, true} {
		if got := o.TakePoolRequest(fmt.Append(nil, i)); got != want {
			t.Errorf("request %d of the pool was found: %t, want the opposite", i, got)
		}
	}
	if o.TakePoolRequest([]byte("3")) || !o.TakePoolRequest([]byte(`"9"`)) || o.TakePoolRequest(OwnIDText(own)) || o.Has([]byte("0")) || o.Has([]byte("4")) {
		t.Error("a wrong request was found, or a request of the pool was not")
	}
	if _, ok := o.Take(OwnIDText(own)); !ok {
		t.Error("the switcher's own request is lost")
	}
}
