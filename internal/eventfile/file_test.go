package eventfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"
)

// read decodes the lines of a file.
func read(t *testing.T, path string) (events []Event) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(b) {
		var e Event
		if err := json.Unmarshal(line, &e); err != nil || line[len(line)-1] != '\n' {
			t.Fatalf("line %q: %v", line, err)
		}
		events = append(events, e)
	}
	return events
}

func opened(t *testing.T, f *File) *File {
	t.Cleanup(func() { f.Close(time.Second) })
	return f
}

func TestEventsAreLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.json")
	f := opened(t, Open(path, nil))
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("CET", 3600))
	f.Add(Event{Time: at, Kind: KindSwitch, Account: "alice", Coin: "btc", To: "bcc", Miners: Number(0), Seconds: Number(1.5), Cost: &Cost{Late: map[string]uint64{"lost": 2}, RefusedAfter: 5, Before: 60, After: 60}})
	f.Add(Event{Kind: KindGone, Worker: "a\nb\x00\xff<", Totals: &Totals{Work: 1e15, Refused: map[string]uint64{"stale": 1}}})
	f.Add(Event{Kind: KindRefusal, Detail: strings.Repeat("ä", maxText)})
	f.Drain(10 * time.Second)
	events := read(t, path)
	if len(events) != 3 || f.Written() != 3 || f.Lost() != 0 {
		t.Fatalf("the file has %d events; %d are counted as written, %d as lost", len(events), f.Written(), f.Lost())
	}
	if e := events[0]; !e.Time.Equal(at) || e.Kind != KindSwitch || e.To != "bcc" || e.Cost.Late["lost"] != 2 {
		t.Errorf("unexpected event %+v", e)
	}
	if e := events[1]; e.Worker != "a\nb\x00\ufffd<" || time.Since(e.Time) > time.Minute {
		t.Errorf("unexpected event %+v", e)
	}
	if d := events[2].Detail; len(d) > maxText+3 || !utf8.ValidString(d) {
		t.Errorf("a text of %d bytes was not shortened well: %q", len(d), d)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o007 != 0 {
		t.Errorf("mode %v, %v: strangers can read the file", info.Mode(), err)
	}
	if b, _ := os.ReadFile(path); !bytes.HasPrefix(b, []byte(`{"time":"2026-01-02T02:04:05Z","event":"switch","account":"alice","coin":"btc","to":"bcc","miners":0,"seconds":1.5,"cost":{"late":{"lost":2},"refused_work_before":0,"refused_work_after":5,"seconds_before":60,"seconds_after":60}}`+"\n")) {
		t.Errorf("unexpected content of the file: %s", b)
	}
}

func TestNoFile(t *testing.T) {
	var f *File
	f.Add(Event{Kind: KindSwitch})
	f.Drain(time.Hour)
	f.Close(time.Hour)
	if f.Written() != 0 || f.Lost() != 0 {
		t.Error("events were counted without a file")
	}
}

// clock is a simulated time, by which each event checks whether the file is still
// there.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) time() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func TestMovedFile(t *testing.T) {
	dir := t.TempDir()
	path, moved := filepath.Join(dir, "events.json"), filepath.Join(dir, "events.json.1")
	c := &clock{now: time.Unix(1e9, 0)}
	f := opened(t, open(path, nil, disk{}, c.time))
	add := func(what string) {
		f.Add(Event{Kind: KindUpgrade, What: what})
		f.Drain(10 * time.Second)
		c.add(2 * checkEvery)
	}
	add("one")
	if err := os.Rename(path, moved); err != nil {
		t.Fatal(err)
	}
	add("two")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	add("three")
	if err := os.Truncate(path, 0); err != nil { // as after copying
		t.Fatal(err)
	}
	add("four")
	if first, last := read(t, moved), read(t, path); len(first) != 1 || first[0].What != "one" || len(last) != 1 || last[0].What != "four" {
		t.Errorf("unexpected events: %+v in the moved file, %+v in the new one", first, last)
	}
}

func TestBrokenLineIsEnded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.json")
	if err := os.WriteFile(path, []byte(`{"event":"swi`), 0o600); err != nil {
		t.Fatal(err)
	}
	f := opened(t, Open(path, nil))
	f.Add(Event{Kind: KindUpgrade})
	f.Drain(10 * time.Second)
	b, _ := os.ReadFile(path)
	lines := bytes.Split(b, []byte{'\n'})
	if len(lines) != 3 || !json.Valid(lines[1]) {
		t.Errorf("the file has %q, want the broken line to be ended", b)
	}
}

func TestNotAFile(t *testing.T) {
	var heard error
	f := Open(t.TempDir(), func(err error) { heard = err })
	f.Add(Event{Kind: KindUpgrade})
	f.Drain(10 * time.Second)
	f.Close(10 * time.Second)
	if f.Lost() != 1 || !errors.Is(heard, errNotRegular) {
		t.Errorf("%d events are lost, reported errors %v", f.Lost(), heard)
	}
}

// fullDisk takes some bytes and no more.
type fullDisk struct {
	mu    sync.Mutex
	room  int
	b     []byte
	hangs chan struct{} // writes wait until it is closed; nil means that they do not
	began chan struct{} // one value for each write that waits
}

func (d *fullDisk) open(string) (file, error)        { return d, nil }
func (d *fullDisk) stat(string) (os.FileInfo, error) { return nil, syscall.EIO }
func (d *fullDisk) Close() error                     { return nil }
func (d *fullDisk) Stat() (os.FileInfo, error)       { return fileSize{size: int64(len(d.b))}, nil }

func (d *fullDisk) Truncate(size int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.room += len(d.b) - int(size)
	d.b = d.b[:size]
	return nil
}

func (d *fullDisk) Write(b []byte) (int, error) {
	if d.hangs != nil {
		d.began <- struct{}{}
		<-d.hangs
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	n := min(len(b), d.room)
	d.b = append(d.b, b[:n]...)
	if d.room -= n; n < len(b) {
		return n, syscall.ENOSPC
	}
	return n, nil
}

func (d *fullDisk) makeRoom(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.room += n
}

type fileSize struct {
	os.FileInfo
	size int64
}

func (s fileSize) Size() int64 { return s.size }

// A full disk loses events and nothing else. Each is counted, and the file says so
// when there is room again.
func TestFullDisk(t *testing.T) {
	line, _ := json.Marshal(&Event{Time: time.Unix(1e9, 0).UTC(), Kind: KindUpgrade})
	d := &fullDisk{room: 2*len(line) + 20}
	c := &clock{now: time.Unix(1e9, 0)}
	told := 0
	f := open("", func(error) { told++ }, d, c.time)
	for range 10 {
		f.Add(Event{Kind: KindUpgrade})
		f.Drain(10 * time.Second)
	}
	d.makeRoom(1 << 20)
	f.Add(Event{Kind: KindUpgrade})
	f.Drain(10 * time.Second)
	f.Close(10 * time.Second)
	var events []Event
	for part := range bytes.Lines(d.b) {
		var e Event
		if err := json.Unmarshal(part, &e); err != nil {
			t.Fatalf("%q: %v", d.b, err)
		}
		events = append(events, e)
	}
	// There was room for two events, and later for the last one.
	if n := len(events); n != 4 || events[2].Kind != KindLost || events[2].Count != 8 || events[3].Kind != KindUpgrade {
		t.Errorf("unexpected content of the file: %s", d.b)
	}
	if f.Written() != 3 || f.Lost() != 8 || told != 1 {
		t.Errorf("%d events written, %d lost, reported %d times", f.Written(), f.Lost(), told)
	}
}

// A disk that hangs blocks nobody, and what waits for it is bounded.
func TestHangingDisk(t *testing.T) {
	d := &fullDisk{room: 1 << 30, hangs: make(chan struct{}), began: make(chan struct{}, 1000)}
	c := &clock{now: time.Unix(1e9, 0)}
	f := open("", nil, d, c.time)
	f.Add(Event{Kind: KindUpgrade})
	<-d.began
	const many = 30_000
	// A busy machine delays the caller of a file whose disk works too.
	control := open("", nil, &fullDisk{room: 1 << 30}, c.time)
	defer control.Close(10 * time.Second)
	var took, beside time.Duration
	for range many {
		c.add(time.Second / perSecond)
		event := Event{Kind: KindSwitch, Detail: strings.Repeat("x", maxText)}
		began := time.Now()
		f.Add(event)
		took += time.Since(began)
		began = time.Now()
		control.Add(event)
		beside += time.Since(began)
	}
	if took > 20*time.Second+2*beside {
		t.Errorf("the caller needed %v for %d events, and %v if the disk works", took, many, beside)
	}
	f.Drain(10 * time.Millisecond) // it must not wait for ever
	f.mu.Lock()
	waiting := len(f.pending)
	f.mu.Unlock()
	if waiting > maxQueue || f.Lost() == 0 {
		t.Errorf("%d bytes are waiting and %d events are lost", waiting, f.Lost())
	}
	close(d.hangs)
	f.Drain(10 * time.Second)
	f.Close(10 * time.Second)
	if f.Written()+f.Lost() != many+1 {
		t.Errorf("%d events written and %d lost, want %d in all", f.Written(), f.Lost(), many+1)
	}
}

// A flood of events of one kind is limited, and leaves room for the others.
func TestRate(t *testing.T) {
	d := &fullDisk{room: 1 << 30}
	c := &clock{now: time.Unix(1e9, 0)}
	f := open("", nil, d, c.time)
	for range burst + 500 {
		f.Add(Event{Kind: KindConnected})
		f.Drain(10 * time.Second)
	}
	f.Add(Event{Kind: KindSwitch})
	f.Drain(10 * time.Second)
	c.add(time.Second)
	for range perSecond + 50 {
		f.Add(Event{Kind: KindConnected})
	}
	f.Close(10 * time.Second)
	if f.Lost() != 550 {
		t.Errorf("%d events are lost, want the 550 above the limit", f.Lost())
	}
	if !bytes.Contains(d.b, []byte(`"event":"lost","count":500}`+"\n"+`{"time":"2001-09-09T01:46:40Z","event":"switch"}`)) {
		t.Error("no line before the switch says what is missing")
	}
}

func TestManyGoroutines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.json")
	f := Open(path, nil)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 200 {
				f.Add(Event{Kind: KindGone, Worker: fmt.Sprintf("w%d.%d", i, j), Seconds: Number(float64(j))})
			}
		})
	}
	all.Wait()
	f.Drain(10 * time.Second)
	f.Add(Event{Kind: KindGone, Seconds: Number(math.NaN())}) // JSON cannot express it
	f.Close(10 * time.Second)
	f.Close(10 * time.Second)
	f.Add(Event{Kind: KindGone})
	if n := len(read(t, path)); n != 1600 || f.Lost() != 2 {
		t.Errorf("got %d events and %d lost", n, f.Lost())
	}
}

// BenchmarkAdd measures what an event costs its caller.
func BenchmarkAdd(b *testing.B) {
	f := open("", nil, &fullDisk{}, time.Now)
	defer f.Close(time.Second)
	for b.Loop() {
		f.Add(Event{Kind: KindGone, Account: "alice", Worker: "alice.w1", Session: "01000080", Totals: &Totals{Submitted: 100, Accepted: 99, Work: 1e15}})
	}
}

// If the disk hangs during an upgrade, what is waiting is lost, and the next
// process reports that.
func TestStateContinuesAfterUpgrade(t *testing.T) {
	hanging := &fullDisk{room: 1 << 30, hangs: make(chan struct{}), began: make(chan struct{}, 10)}
	f := open("", nil, hanging, time.Now)
	f.Add(Event{Kind: KindUpgrade})
	<-hanging.began
	f.Add(Event{Kind: KindSwitch})
	f.Drain(time.Millisecond)
	st := f.State()
	if *st != (State{Lost: 2, Missing: 2}) {
		t.Errorf("unexpected state %+v", st)
	}
	d := &fullDisk{room: 1 << 30}
	next := open("", nil, d, time.Now)
	next.Resume(st)
	next.Resume(nil)
	next.Add(Event{Kind: KindUpgrade})
	next.Close(10 * time.Second)
	if !bytes.Contains(d.b, []byte(`"event":"lost","count":2}`+"\n")) || *next.State() != (State{Written: 1, Lost: 2}) {
		t.Errorf("unexpected state %+v or content %s", next.State(), d.b)
	}
	// If the upgrade is undone, nothing was lost.
	close(hanging.hangs)
	f.Close(10 * time.Second)
	if f.Written() != 2 || f.Lost() != 0 {
		t.Errorf("%d events written, %d lost", f.Written(), f.Lost())
	}
	if (*File)(nil).State() != nil {
		t.Error("there is a state although there is no file")
	}
}

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	there := filepath.Join(dir, "events.json")
	if err := os.WriteFile(there, []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	links := t.TempDir()
	circle, nowhere := filepath.Join(links, "circle"), filepath.Join(links, "nowhere")
	for link, target := range map[string]string{circle: circle, nowhere: filepath.Join(links, "no", "events.json")} {
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
	}
	for path, ok := range map[string]bool{
		circle: false, nowhere: false, filepath.Join(dir, strings.Repeat("n", 300)): false,
		there: true, filepath.Join(dir, "new.json"): true,
		dir: false, filepath.Join(dir, "no", "events.json"): false, filepath.Join(there, "events.json"): false, os.DevNull: false,
	} {
		if err := Check(path); (err == nil) != ok {
			t.Errorf("%s: %v", path, err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("files are left: %v, %v", left, err)
	}
	if b, err := os.ReadFile(there); err != nil || string(b) != "{}\n" {
		t.Errorf("the file has %q, %v", b, err)
	}
}
