package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func TestRequestQueue(t *testing.T) {
	var q requestQueue
	want := func(tag linkTag, id string, at int, after bool) {
		t.Helper()
		if gotAt, gotAfter := q.find(tag, []byte(id)); gotAt != at || gotAfter != after && at >= 0 {
			t.Fatalf("find(%d, %s) is %d, %v, want %d, %v", tag, id, gotAt, gotAfter, at, after)
		}
	}
	want(1, "7", -1, false)
	q.pushShare(1, []byte("7"), 5)
	q.push(1, []byte("7"))
	q.pushShare(2, []byte("7"), 5)
	q.pushShare(2, []byte(`"7"`), 5)
	q.push(1, []byte("77"))
	want(1, "7", 0, false)
	want(2, "7", 8, true)
	want(2, `"7"`, 12, false)
	want(1, "77", 18, false)
	want(3, "7", -1, false)
	if n := q.shares(1); n != 1 {
		t.Errorf("%d shares of link 1, want 1", n)
	}
	requests, generations := q.state()
	if again := newRequestQueue(requests, generations); !bytes.Equal(again.b, q.b) {
		t.Errorf("after an upgrade %q, before %q", again.b, q.b)
	}
	if of := newRequestQueue(requests, nil); len(of.b) != len(q.b) { // by an earlier build
		t.Errorf("of an earlier build %q", of.b)
	}
	for _, bad := range [][]byte{requests[:len(requests)-1], {1}, {1, 2, '3'}} {
		if of := newRequestQueue(bad, generations); len(of.b) != 0 {
			t.Errorf("%q is taken for %q", bad, of.b)
		}
	}
	if g, share := q.remove(0); !share || g != 5 {
		t.Error("the first was a share")
	}
	if _, share := q.remove(0); share {
		t.Error("the second was none")
	}
	want(2, "7", 0, false)
}

// Ids at and beyond the limits.
func TestRequestQueueLimits(t *testing.T) {
	var q requestQueue
	longest := bytes.Repeat([]byte("i"), maxRequestID)
	q.pushShare(1, longest, 5)
	if at, _ := q.find(1, longest); at != 0 {
		t.Error("an id of the greatest length is not kept")
	}
	if _, share := q.remove(0); !share {
		t.Error("its mark as a share is lost")
	}
	q.pushShare(1, append(longest, 'i'), 5)
	q.pushShare(1, nil, 5)
	if len(q.b) != 0 {
		t.Errorf("kept %q", q.b)
	}
	pushed := 0
	for i := range 2 * maxRequests {
		before := len(q.b)
		q.pushShare(linkTag(i%3), fmt.Appendf(nil, "%d", i), 5)
		if len(q.b) > before {
			pushed++
		}
	}
	if len(q.b) > maxRequests || len(q.b) < maxRequests-maxRequestID {
		t.Errorf("%d bytes kept", len(q.b))
	}
	if n := q.shares(0) + q.shares(1) + q.shares(2); n != pushed {
		t.Errorf("%d requests counted, %d kept", n, pushed)
	}
}

// Against a plain list, with random calls.
func TestRequestQueueModel(t *testing.T) {
	type entry struct {
		tag   linkTag
		id    string
		share bool
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	var q requestQueue
	var model []entry
	for range 20000 {
		tag, id := linkTag(rng.IntN(3)), fmt.Sprint(rng.IntN(12))
		switch rng.IntN(7) {
		case 0, 1, 2:
			if len(q.b) < 1000 {
				share := rng.IntN(2) == 0
				if share {
					q.pushShare(tag, []byte(id), 5)
				} else {
					q.push(tag, []byte(id))
				}
				model = append(model, entry{tag, id, share})
			}
		default:
			i := slices.IndexFunc(model, func(e entry) bool { return e.tag == tag && e.id == id })
			first := slices.IndexFunc(model, func(e entry) bool { return e.id == id })
			at, after := q.find(tag, []byte(id))
			if (at >= 0) != (i >= 0) || i >= 0 && after != (first < i) {
				t.Fatalf("find(%d, %s) is %d, %v in %v", tag, id, at, after, model)
			}
			if i >= 0 {
				if _, share := q.remove(at); share != model[i].share {
					t.Fatalf("removed %v, share is %v", model[i], share)
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
		if got := lineID([]byte(c.line)); string(got) != c.want {
			t.Errorf("%s: id %q, want %q", c.line, got, c.want)
		}
	}
}

// The miner's ids come back as sent, from the pool in use and from a former
// one, whatever type they have.
func TestRequestIDsOfEveryType(t *testing.T) {
	sc, btc := startScene(t, "bitcoin", nil, "btc", "bcc")
	ids := []string{
		`0`, `-1`, `1.50`, `1e3`, `123456789012345678901234567890`, `true`,
		`""`, `"1"`, `"a\"b\\c\/d"`, `"\u0041\ud83d\ude00"`, `"ü"`, `"{\"method\":\"mining.submit\"}"`,
		`[]`, `[1,"2"]`, `{}`, `{"a":{"b":[1,2,{"c":null}]}}`,
		`"` + strings.Repeat("i", maxRequestID-2) + `"`,
		`"` + strings.Repeat("i", maxRequestID-1) + `"`,
		`"` + strings.Repeat("i", 4000) + `"`,
	}
	for _, id := range ids {
		sc.share(btc, id, "btc-1")
		sc.answered(btc, id)
		sc.share(btc, id, "btc-1") // answered after the switch
	}
	bcc := sc.switchTo("bcc", "bcc-1")
	for _, id := range ids {
		sc.answered(btc, id)
	}
	for _, id := range ids {
		sc.share(btc, id, "btc-1")
		sc.answered(btc, id)
		sc.share(bcc, id, "bcc-1")
		sc.answered(bcc, id)
	}
}

// A miner that uses one id for all matches answers in order: those of two
// pools come in the order of the requests.
func TestRequestsOfOneIDKeepTheirOrder(t *testing.T) {
	sc, btc := startScene(t, "bitcoin", nil, "btc", "bcc")
	reject := `{"id":1,"result":null,"error":[23,"Low difficulty share",null]}`
	other := `{"id":1,"result":null,"error":[22,"Duplicate share",null]}`
	sc.share(btc, "1", "btc-1") // A
	bcc := sc.switchTo("bcc", "bcc-1")
	sc.share(bcc, "1", "bcc-1") // B
	sc.share(bcc, "1", "bcc-1") // C
	sc.share(btc, "1", "btc-1") // D
	sc.share(bcc, "2", "bcc-1")
	bcc.SendLine(reject)          // B
	bcc.SendLine(other)           // C
	sc.answered(bcc, "2")         // nobody waits for this one
	btc.SendLine(goodAnswer("1")) // A
	for _, want := range []string{goodAnswer("1"), reject, other} {
		sc.miner.ExpectLine(want)
	}
	sc.share(bcc, "1", "bcc-1") // E
	bcc.SendLine(reject)
	sc.nothing(bcc, "bcc-1")
	btc.SendLine(other) // D
	sc.miner.ExpectLine(other)
	sc.miner.ExpectLine(reject)
	sc.nothing(bcc, "bcc-1")
}

// The newer of two links with requests of one id is lost: its errors wait for
// the older link's answer too.
func TestRequestsOfOneIDAfterLoss(t *testing.T) {
	reject := `{"id":1,"result":null,"error":[23,"Low difficulty share",null]}`
	t.Run("upstream lost", func(t *testing.T) {
		sc, btc := startScene(t, "bitcoin", nil, "btc", "bcc")
		sc.sw.setTiming(impatient)
		sc.share(btc, "1", "btc-1") // A
		bcc := sc.switchTo("bcc", "bcc-1")
		sc.share(bcc, "1", "bcc-1") // B
		sc.share(bcc, "1", "bcc-1") // C
		sc.share(bcc, "2", "bcc-1")
		bcc.SendLine(reject) // B
		bcc.Close()
		sc.miner.ExpectLine(lostAnswer("2"))
		bcc2 := sc.serve("bcc", "bcc-2")
		sc.expectWork("bcc-2")
		sc.nothing(bcc2, "bcc-2")
		btc.SendLine(goodAnswer("1")) // A
		for _, want := range []string{goodAnswer("1"), reject, lostAnswer("1")} {
			sc.miner.ExpectLine(want)
		}
		sc.nothing(bcc2, "bcc-2")
	})
	t.Run("former link lost", func(t *testing.T) {
		sc, btc := startScene(t, "bitcoin", nil, "btc", "bcc")
		sc.share(btc, "1", "btc-1") // A
		bcc := sc.switchTo("bcc", "bcc-1")
		sc.share(bcc, "1", "bcc-1") // B
		sc.share(btc, "1", "btc-1") // C
		bcc.SendLine(reject)
		sc.nothing(bcc, "bcc-1")
		btc.Close()
		for _, want := range []string{lostAnswer("1"), reject, lostAnswer("1")} {
			sc.miner.ExpectLine(want)
		}
		sc.nothing(bcc, "bcc-1")
	})
	t.Run("both lost", func(t *testing.T) {
		sc, btc := startScene(t, "bitcoin", nil, "btc", "bcc")
		sc.sw.setTiming(impatient)
		sc.share(btc, "1", "btc-1")
		bcc := sc.switchTo("bcc", "bcc-1")
		sc.share(bcc, "1", "bcc-1")
		bcc.SendLine(reject)
		sc.nothing(bcc, "bcc-1")
		bcc.Close()
		bcc2 := sc.serve("bcc", "bcc-2")
		sc.expectWork("bcc-2")
		btc.Close()
		sc.miner.ExpectLine(lostAnswer("1"))
		sc.miner.ExpectLine(reject)
		sc.nothing(bcc2, "bcc-2")
	})
}

// What a lost pool owed is answered at once, each request once, others too.
func TestRequestsAnsweredWhenPoolIsLost(t *testing.T) {
	sc, btc := startScene(t, "bitcoin", nil, "btc")
	sc.sw.setTiming(impatient)
	var want []string
	for i := range 30 {
		id := fmt.Sprint(10 + i)
		if i%2 == 0 {
			id = fmt.Sprintf(`"s-%d"`, i)
		}
		sc.share(btc, id, "btc-1")
		if i%3 == 0 {
			sc.answered(btc, id)
		} else {
			want = append(want, id)
		}
	}
	other := `{"id":"t","method":"mining.get_transactions","params":["btc-1"]}`
	sc.miner.SendLine(other)
	btc.ExpectLine(other)
	notification := `{"id":null,"method":"mining.hashrate","params":[1]}`
	sc.miner.SendLine(notification)
	btc.ExpectLine(notification)
	btc.Close()
	for _, id := range append(want, `"t"`) {
		sc.miner.ExpectLine(lostAnswer(id))
	}
	btc2 := sc.serve("btc", "btc-2")
	sc.expectWork("btc-2")
	sc.nothing(btc2, "btc-2")
}

// More requests than are kept: those that are kept are answered. The others
// are as long as the link they went to is in use.
func TestRequestsBeyondTheLimit(t *testing.T) {
	sc, btc := startScene(t, "bitcoin", nil, "btc", "bcc")
	const n = 2600
	id := func(i int) string { return fmt.Sprint(10000 + i) }
	for i := range n {
		sc.share(btc, id(i), "btc-1")
	}
	kept := maxRequests / len(`12`+`10000`)
	for _, i := range []int{n - 1, 0, n - 2, kept + 1} {
		sc.answered(btc, id(i))
	}
	bcc := sc.switchTo("bcc", "bcc-1")
	sc.nothing(bcc, "bcc-1")
	for i := 1; i < kept; i++ {
		btc.SendLine(goodAnswer(id(i)))
	}
	for i := 1; i < kept; i++ {
		sc.miner.ExpectLine(goodAnswer(id(i)))
	}
	sc.nothing(bcc, "bcc-1")
}
