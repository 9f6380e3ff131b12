package stratum

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/hashrate"
)

// IDs that are sent in place of others are of the same kind, at most two characters
// longer, and not in use.
func TestOtherJobID(t *testing.T) {
	for _, c := range []struct {
		id     string
		number bool
		taken  string // all of these are in use
		want   string
	}{
		{id: "1", want: "10"},
		{id: "1", taken: "10 11", want: "12"},
		{id: "1", taken: "10 11 12 13 14 15 16 17 18 19", want: "100"},
		{id: "0", number: true, want: "1"},
		{id: "0", number: true, taken: "1 2 3 4 5 6 7 8 9", want: "10"},
		{id: "7", number: true, want: "70"},
		{id: "65fa00d1", want: "65fa00d10"},
		{id: "65FA00D1", want: "65FA00D10"},
		{id: "beef", taken: "beef0 beef1 beef2 beef3 beef4 beef5 beef6 beef7 beef8 beef9", want: "beefa"},
		{id: "btc-1", want: "btc-10"},
		{id: "same", want: "samea"},
		{id: "SAME", want: "SAMEA"},
		{id: "", want: "0"},
		{id: `a\"1`, want: `a\"10`},
	} {
		got := OtherJobID([]byte(c.id), c.number, func(id []byte) bool {
			return strings.Contains(" "+c.taken+" ", " "+string(id)+" ")
		})
		if string(got) != c.want {
			t.Errorf("%q, number %v, taken %s: got %q, want %q", c.id, c.number, c.taken, got, c.want)
		}
	}
	if got := OtherJobID([]byte("1"), false, func([]byte) bool { return true }); got != nil {
		t.Errorf("got %q although all are taken", got)
	}
}

// The table finds the latest jobs by both of their IDs, and forgets the oldest.
func TestJobTable(t *testing.T) {
	var table JobTable
	for i := range 3 * MaxLinkJobs {
		var own []byte
		if i%3 == 0 {
			own = fmt.Append(nil, i)
		}
		table.Add(fmt.Appendf(nil, "told-%d", i), own, hashrate.Generation(i), MaxLinkJobs)
		table.Add(fmt.Appendf(nil, "told-%d", i), own, hashrate.Generation(i), MaxLinkJobs) // sent again
	}
	check := func(table *JobTable) {
		t.Helper()
		renamed := 0
		for i := range 3 * MaxLinkJobs {
			own, ok := table.Find(fmt.Appendf(nil, "told-%d", i))
			if ok != (i >= 2*MaxLinkJobs) || ok && (own != nil) != (i%3 == 0) || own != nil && string(own) != fmt.Sprint(i) {
				t.Errorf("job %d: got %q, %v", i, own, ok)
			}
			if ok && own != nil {
				renamed++
			}
		}
		if table.count != MaxLinkJobs || int(table.renamed) != renamed {
			t.Errorf("%d jobs, %d renamed, want %d", table.count, table.renamed, renamed)
		}
	}
	check(&table)
	ids, renamed, generations := table.State()
	again := NewJobTable(ids, renamed, generations, 0)
	check(&again)
	if told := table.MinerIDFor(fmt.Append(nil, 3*MaxLinkJobs-3)); string(told) != fmt.Sprintf("told-%d", 3*MaxLinkJobs-3) {
		t.Errorf("the job is sent as %q", told)
	}
	later := NewJobTable([]string{"told-40", "new"}, nil, nil, 7)
	later.Prepend(&table, func(id []byte) bool { return string(id) == "told-41" }, func(g hashrate.Generation) hashrate.Generation { return g + 1 })
	for id, want := range map[string]hashrate.Generation{"told-39": 40, "told-40": 7, "new": 7} {
		if g, ok := later.Generation([]byte(id)); !ok || g != want {
			t.Errorf("job %s has generation %d, %v, want %d", id, g, ok, want)
		}
	}
	if own, ok := later.Find([]byte("told-40")); !ok || own != nil {
		t.Errorf("an earlier job was found instead of a later one: %q, %v", own, ok)
	}
	if later.Has([]byte("told-41")) || !later.Has([]byte("told-42")) || !later.Has([]byte("new")) {
		t.Error("the wrong jobs were taken over")
	}
}

// The pool's ID of a renamed job may be empty, also after an upgrade.
func TestJobTableEmptyID(t *testing.T) {
	var table JobTable
	table.Add([]byte("0"), nil, 1, MaxLinkJobs)
	table.Add([]byte("0"), []byte(""), 2, MaxLinkJobs)
	ids, renamed, generations := table.State()
	text, err := json.Marshal(renamed)
	if err == nil {
		renamed = nil
		err = json.Unmarshal(text, &renamed)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range []JobTable{table, NewJobTable(ids[1:], renamed, generations[1:], 0)} {
		if own, ok := table.Find([]byte("0")); !ok || own == nil || len(own) > 0 || string(table.MinerIDFor(nil)) != "0" || table.Unrenamed() {
			t.Errorf("got %q, %v from %+v", own, ok, table)
		}
	}
}

// Job IDs are found, and put back, wherever and in whatever form they are.
func TestJobIDSpan(t *testing.T) {
	for _, c := range []struct {
		line string
		n    int
		id   string // "" means that there is none
		put  string // the line with x in its place
	}{
		{jobLine("j1", true), 0, "j1", jobLine("x", true)},
		{shareLine("1", "j1"), 1, "j1", shareLine("1", "x")},
		{`{"params": [ "w" , 17 , "0"]}`, 1, "17", `{"params": [ "w" , x , "0"]}`},
		{`{"params":[17,"0"]}`, 0, "17", `{"params":[x,"0"]}`},
		{`{"params":[null,"17"]}`, 1, "17", `{"params":[null,"x"]}`},
		{`{"params":["a\",\"b","17"]}`, 1, "17", `{"params":["a\",\"b","x"]}`},
		{`{"params":[["17"],"0"]}`, 0, "", ""},
		{`{"params":["w"]}`, 1, "", ""},
		{`{"params":["w",`, 1, "", ""},
		{`{"params":[1`, 0, "", ""},
		{`{"params":{}}`, 0, "", ""},
		{`{"id":1}`, 0, "", ""},
	} {
		at, _, ok := JobIDSpan([]byte(c.line), c.n)
		if ok != (c.id != "") || ok && c.line[at.Start:at.End] != c.id {
			t.Errorf("%s: got %v, %v", c.line, at, ok)
		}
		if got := string(PutJobID([]byte(c.line), c.n, []byte("x"))); ok && got != c.put {
			t.Errorf("%s: got %s, want %s", c.line, got, c.put)
		}
	}
}

// A full table has little more room than its jobs need, also if the IDs get longer
// meanwhile, and at most a little more after links have drained.
func TestJobTableSize(t *testing.T) {
	var table JobTable
	add := func(i, limit int) { table.Add(fmt.Appendf(nil, "pool-a-%d", i), nil, 0, limit) }
	for i := range 200 {
		add(i, MaxLinkJobs)
		if i >= MaxLinkJobs && cap(table.b) > len(table.b)*5/4 {
			t.Fatalf("job %d: the table has room for %d bytes and uses %d", i, cap(table.b), len(table.b))
		}
	}
	for i := range 200 {
		add(i, MaxDrainJobs)
	}
	add(200, MaxLinkJobs)
	if cap(table.b) > len(table.b)*5/4 {
		t.Errorf("after drains, the table has room for %d bytes and uses %d", cap(table.b), len(table.b))
	}
	ids, renamed, generations := table.State()
	if restored := NewJobTable(ids, renamed, generations, 0); cap(restored.b) > len(restored.b)*5/4 {
		t.Errorf("a restored table has room for %d bytes and uses %d", cap(restored.b), len(restored.b))
	}
}

// Job IDs of any length are found, also after the state was written and read. Each takes
// no more memory than the longest that is stored as it is, with its other ID.
func TestLongJobIDs(t *testing.T) {
	var ids [][]byte
	for _, n := range []int{MaxJobID, MaxJobID + 1, MaxJobID + 2, MaxJobID + 3, 1000, MaxMinerLine} {
		for _, last := range []string{"a", "b"} {
			ids = append(ids, []byte(strings.Repeat("j", n-1)+last))
		}
	}
	ids = append(ids, []byte(longKeyPrefix+strings.Repeat("0", 128)), []byte(longKeyPrefix+strings.Repeat("0", 127)))
	var table JobTable
	set := make(JobSet)
	for i, id := range ids {
		table.Add(id, nil, hashrate.Generation(i), MaxDrainJobs)
		set.Add([]byte(`{"method":"mining.notify","params":["` + string(id) + `"]}`))
	}
	jobs, renamed, generations := table.State()
	text, err := json.Marshal(jobs)
	var read []string
	if err == nil {
		err = json.Unmarshal(text, &read)
	}
	if err != nil {
		t.Fatal(err)
	}
	restored := NewJobTable(read, renamed, generations, 0)
	moved := JobTable{}
	moved.Prepend(&restored, func(key []byte) bool { return moved.HasKey(key) }, func(g hashrate.Generation) hashrate.Generation { return g })
	restoredSet := NewJobSet(slices.Collect(maps.Keys(set)))
	for i, id := range ids {
		for name, table := range map[string]*JobTable{"table": &table, "restored": &restored, "moved": &moved} {
			if g, ok := table.Generation(id); !ok || int(g) != i || !table.Has(id) {
				t.Errorf("%s: job %d of %d bytes has generation %d, %t", name, i, len(id), g, ok)
			}
		}
		if !set.Has(id) || !restoredSet.Has(id) {
			t.Errorf("job %d of %d bytes is not in the set", i, len(id))
		}
		id[0] = 'x'
		if table.Has(id) || set.Has(id) {
			t.Errorf("another ID of %d bytes is found", len(id))
		}
	}
	if most := len(ids) * (jobHead + 2*MaxJobID + 2); len(table.b) > most {
		t.Errorf("%d jobs take %d bytes, more than %d", len(ids), len(table.b), most)
	}
	table.Add([]byte(strings.Repeat("j", MaxMinerLine+1)), nil, 0, MaxDrainJobs) // no share can name it
	if int(table.count) != len(ids) {
		t.Errorf("there are %d jobs, want %d", table.count, len(ids))
	}
	// Nobody writes these. Earlier builds wrote no IDs of more than 130 bytes.
	damaged := NewJobTable([]string{strings.Repeat("j", MaxJobID+3), longKeyPrefix, strings.Repeat("j", len(longKey{}))}, nil, nil, 0)
	if damaged.count != 1 {
		t.Errorf("%d jobs were read, want 1", damaged.count)
	}
	for _, id := range [][]byte{ids[0], ids[8]} {
		if n := testing.AllocsPerRun(100, func() { table.Has(id) }); n > 0 {
			t.Errorf("finding an ID of %d bytes allocates %v times", len(id), n)
		}
	}
}
