package hashrate

import (
	"encoding/json"
	"testing"
	"unsafe"
)

func TestLink(t *testing.T) {
	var l Link
	if l.Current().Known() || !l.Settled() || l.NextKnown() {
		t.Errorf("a new link has %v and counts as settled: %t", l.Current(), l.Settled())
	}
	early := l.Job(0) // before any difficulty
	l.SetDifficulty(1024, 1)
	if l.Current().Known() {
		t.Errorf("the job before the first difficulty has %v", l.Current())
	}
	l.SetDifficulty(2048, 2) // no job has it
	if !l.NextKnown() {
		t.Error("2048 counts although no job had it")
	}
	a := l.Job(3)
	l.SetDifficulty(2048, 4) // sent again
	b := l.Job(5)
	l.SetDifficulty(4096, 6)
	if got := l.Current(); got != 2048 {
		t.Errorf("the latest job has %v although no job of the new difficulty has come", got)
	}
	c := l.Job(7)
	for _, want := range []struct {
		job Generation
		d   Difficulty
	}{{early, Unknown}, {a, 2048}, {b, 2048}, {c, 4096}} {
		if got := l.Difficulty(want.job); got != want.d {
			t.Errorf("the job of generation %d has %v, want %v", want.job, got, want.d)
		}
	}
	if a != b || l.Current() != 4096 || l.Latest() != c {
		t.Errorf("generations %d, %d; current %v, latest %d of %d", a, b, l.Current(), l.Latest(), c)
	}
}

// Former difficulties are kept for two minutes, and for as long as shares wait.
func TestLinkForgets(t *testing.T) {
	var l Link
	l.SetDifficulty(1, 0)
	a := l.Job(0)
	l.SetDifficulty(2, 100)
	l.Sweep(10_000, false)
	if got := l.Current(); got != 1 {
		t.Fatalf("the job in use has %v: no other has come yet", got)
	}
	b := l.Job(10_000)
	for _, step := range []struct {
		now     uint32
		waiting bool
		kept    bool
	}{{10_000, false, true}, {10_119, false, true}, {10_120, true, true}, {20_000, true, true}, {20_000, false, false}} {
		l.Sweep(step.now, step.waiting)
		if got := l.Difficulty(a) == 1; got != step.kept {
			t.Errorf("at %d, with shares waiting %t: the difficulty counts as known: %t", step.now, step.waiting, got)
		}
		if l.Difficulty(b) != 2 {
			t.Errorf("at %d: the last job has %v", step.now, l.Difficulty(b))
		}
	}
	if l.Difficulty(a).Known() || !l.Settled() {
		t.Errorf("a job whose difficulty was forgotten has %v", l.Difficulty(a))
	}
}

func TestLinkMemory(t *testing.T) {
	if n := unsafe.Sizeof(Link{}); n > 16 {
		t.Errorf("a link takes %d bytes", n)
	}
	if n := unsafe.Sizeof(formerDifficulties{}); n > 144 {
		t.Errorf("a change takes %d bytes", n)
	}
	var l Link
	for i := range uint32(100_000) { // a pool that changes the difficulty without end
		l.SetDifficulty(Difficulty(i+1), 0)
		l.Job(0)
	}
	for i := range Generation(formerKept + 1) {
		if got := l.Difficulty((l.number - i) & generationMask); got != Difficulty(100_000-float64(i)) {
			t.Errorf("the difficulty of %d changes ago is %v", i, got)
		}
	}
	if got := l.Difficulty((l.number - formerKept - 1) & generationMask); got.Known() {
		t.Errorf("a change that is no longer kept has %v", got)
	}
}

func TestLinkAdopts(t *testing.T) {
	var former, l Link
	former.SetDifficulty(512, 0)
	old := former.Job(0)
	l.SetDifficulty(1024, 0)
	x := l.Job(0)
	l.SetDifficulty(2048, 0)
	l.Job(0)
	for _, d := range []Difficulty{former.Difficulty(old), 1024, 2048, Unknown, 512} {
		if got := l.Difficulty(l.Adopt(d, 0)); got != d {
			t.Errorf("a job of difficulty %v has %v after it was taken over", d, got)
		}
	}
	if l.Difficulty(x) != 1024 || l.Current() != 2048 {
		t.Errorf("the link's own jobs have %v and %v", l.Difficulty(x), l.Current())
	}
	for i := range 100 { // more than there is room for
		d := Difficulty(i + 10)
		if got := l.Difficulty(l.Adopt(d, 0)); got != d && got != Unknown {
			t.Errorf("a job of %v has %v", d, got)
		}
	}
	if l.Difficulty(x) != 1024 || l.Current() != 2048 {
		t.Errorf("after that, the link's own jobs have %v and %v", l.Difficulty(x), l.Current())
	}
}

func TestLinkState(t *testing.T) {
	if st := new(Link).State(5); st != nil {
		t.Errorf("a link of which nothing is known has the state %+v", st)
	}
	var none *LinkState
	if l := none.Link(5); l != (Link{}) {
		t.Errorf("without a state, the link is %+v", l)
	}
	var l Link
	var jobs []Generation
	for i := range 200 {
		l.SetDifficulty(Difficulty(i+1), uint32(i))
		jobs = append(jobs, l.Job(uint32(i)))
	}
	l.SetDifficulty(7777, 210)
	b, err := json.Marshal(l.State(220))
	if err != nil {
		t.Fatal(err)
	}
	var st LinkState
	if err := json.Unmarshal(b, &st); err != nil {
		t.Fatal(err)
	}
	now := st.Link(3) // the clock is another one
	for i, g := range jobs[len(jobs)-40:] {
		if got, want := now.Difficulty(g), l.Difficulty(g); got != want {
			t.Errorf("job %d has %v after an upgrade, before it %v", i, got, want)
		}
	}
	if now.Current() != l.Current() || now.next != 7777 {
		t.Errorf("the current difficulty is %v and the next %v, unlike before", now.Current(), now.next)
	}
	now.Job(3)
	now.Sweep(3+FormerSeconds, false)
	if !now.Settled() {
		t.Error("changes from before the upgrade are kept for ever")
	}
	hostile := LinkState{Difficulty: -1, Number: 255, Former: make([]float32, 1000), Age: 1 << 31}
	l = hostile.Link(0)
	if l.Current().Known() || l.Job(0) > generationMask {
		t.Errorf("an impossible state has the difficulty %v", l.Current())
	}
}

// TestLinkByHand follows jobs and shares of two links by manual arithmetic: a
// change between job and share, late shares at a former pool, refused ones, and an
// upgrade in the middle.
func TestLinkByHand(t *testing.T) {
	var (
		now         uint32
		old, next   Link
		miner       = NewMiner(0)
		account     Counter
		oldC, nextC Counter // counters of the pool addresses
	)
	take := func(l *Link, c *Counter, g Generation, refused bool) {
		d := l.Difficulty(g)
		miner.Submit(now)
		account.Submit()
		c.Submit()
		if refused {
			miner.Refuse(RefusalStale)
			account.Refuse(d, RefusalStale)
			c.Refuse(d, RefusalStale)
			return
		}
		miner.Accept(d, now)
		account.Accept(d)
		c.Accept(d)
	}
	old.SetDifficulty(ParseDifficulty([]byte("1000")), now)
	j1 := old.Job(now)
	take(&old, &oldC, j1, false) // 1,000
	old.SetDifficulty(ParseDifficulty([]byte(`"4e3"`)), now)
	take(&old, &oldC, j1, false) // 1,000: the job is from before the change
	j2 := old.Job(now)
	take(&old, &oldC, j1, false) // 1,000: late
	take(&old, &oldC, j2, false) // 4,000
	take(&old, &oldC, j2, true)  // refused: 4,000
	// There is a switch, and the new pool has another difficulty.
	now += 30
	next.SetDifficulty(FromTarget([]byte("000000000000ffff000000000000000000000000000000000000000000000000")), now)
	k1 := next.Job(now)
	take(&old, &oldC, j2, false)  // 4,000: late at the former pool
	take(&next, &nextC, k1, true) // refused: 65,536
	// An upgrade happens while shares wait that remember k1, j1 and j2.
	old, next = old.State(now).Link(0), next.State(now).Link(0)
	st := miner.State(now)
	now = 0
	miner = st.Miner(now)
	take(&old, &oldC, j1, false)     // 1,000
	take(&next, &nextC, k1, false)   // 65,536
	next.SetDifficulty(Unknown, now) // the pool sends something unintelligible
	k2 := next.Job(now)
	take(&next, &nextC, k2, false) // unknown

	const oldWork, nextWork = 4*1000 + 2*4000, 65536
	if got := oldC.Totals(); got.Work != oldWork || got.Accepted != 6 || got.Lost[RefusalStale] != 4000 || got.RefusedShares() != 1 || got.Unknown != 0 {
		t.Errorf("the former pool has %+v", got)
	}
	if got := nextC.Totals(); got.Work != nextWork || got.Accepted != 2 || got.LostWork() != 65536 || got.Unknown != 1 {
		t.Errorf("the new pool has %+v", got)
	}
	if got, want := account.Totals(), oldC.Totals().Plus(nextC.Totals()); got != want {
		t.Errorf("the sub-account has %+v, want %+v", got, want)
	}
	if miner.work != oldWork+nextWork {
		t.Errorf("the miner has work %v, want %v", miner.work, oldWork+nextWork)
	}
	if got := miner.Totals(); got.Submitted != 10 || got.Accepted != 8 || got.Refused[RefusalStale] != 2 || got.Unknown != 1 {
		t.Errorf("the miner has %+v", got)
	}
	// There are 77,536 * 2^32 hashes in 30 s, and a share of which nothing is
	// known.
	rate := miner.Average(now)
	if want := float64(oldWork+nextWork) * (1 << 32) / 30; rate.PerSecond != want || rate.Knowledge != PartlyKnown {
		t.Errorf("the miner's hashrate is %v, want %v", rate, want)
	}
}

// FuzzLink compares a link with a plain list of jobs.
func FuzzLink(f *testing.F) {
	f.Add([]byte{0, 1, 2, 1, 3, 1, 1, 9, 1, 2, 8, 1})
	f.Fuzz(func(t *testing.T, steps []byte) {
		var l Link
		var told Difficulty
		type job struct {
			g       Generation
			d       Difficulty
			changes int
		}
		var jobs []job
		changes := 0
		for i, step := range steps {
			now := uint32(i)
			switch step % 4 {
			case 0:
				if d := Difficulty(step / 4); d != told {
					told = d
					changes++
				}
				l.SetDifficulty(told, now)
			case 1:
				jobs = append(jobs, job{l.Job(now), told, changes})
			case 2:
				l = l.State(now).Link(now)
			case 3:
				l.BeginGeneration(now)
				changes++
			}
			for _, j := range jobs {
				if changes-j.changes <= formerKept && l.Difficulty(j.g) != j.d {
					t.Fatalf("step %d: a job has %v, want %v", i, l.Difficulty(j.g), j.d)
				}
			}
			if n := len(jobs); n > 0 && l.Current() != jobs[n-1].d {
				t.Fatalf("step %d: the latest job has %v, want %v", i, l.Current(), jobs[n-1].d)
			}
		}
	})
}
