package coins

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/regularfile"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// The folder is replaced by another one, or by a link to another one. The file
// there is read, and its changes take effect.
func TestCoinFileFolderReplaced(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(dir, cur string) error // makes cur, the folder in which the file is read
		swap func(dir, cur string) error // puts "new" in its place
	}{
		{"link swapped", func(dir, cur string) error {
			return errors.Join(os.Mkdir(filepath.Join(dir, "old"), 0o700), os.Symlink("old", cur))
		}, func(dir, cur string) error {
			return errors.Join(os.Symlink("new", cur+".tmp"), os.Rename(cur+".tmp", cur))
		}},
		{"link further up", func(dir, cur string) error {
			parent := filepath.Join(dir, "parent1", filepath.Base(cur))
			return errors.Join(os.MkdirAll(parent, 0o700), os.Symlink("parent1", filepath.Join(dir, "parent")), os.Symlink("parent/cur", cur))
		}, func(dir, cur string) error {
			return errors.Join(os.Mkdir(filepath.Join(dir, "parent2"), 0o700), os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "parent2", "cur")),
				os.Symlink("parent2", filepath.Join(dir, "p.tmp")), os.Rename(filepath.Join(dir, "p.tmp"), filepath.Join(dir, "parent")))
		}},
		{"renamed", func(_, cur string) error { return os.Mkdir(cur, 0o700) }, func(dir, cur string) error {
			return errors.Join(os.Rename(cur, filepath.Join(dir, "old")), os.Rename(filepath.Join(dir, "new"), cur))
		}},
		{"deleted", func(_, cur string) error { return os.Mkdir(cur, 0o700) }, func(dir, cur string) error {
			return errors.Join(os.RemoveAll(cur), os.Rename(filepath.Join(dir, "new"), cur))
		}},
		{"parent renamed", func(_, cur string) error { return os.Mkdir(cur, 0o700) }, func(dir, cur string) error {
			return errors.Join(os.Rename(dir, dir+".old"), os.Mkdir(dir, 0o700), os.Rename(filepath.Join(dir+".old", "new"), cur))
		}},
		{"folder becomes a link", func(_, cur string) error { return os.Mkdir(cur, 0o700) }, func(dir, cur string) error {
			return errors.Join(os.Rename(cur, filepath.Join(dir, "old")), os.Symlink("new", cur))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "dir")
			testkit.Must(t, os.Mkdir(dir, 0o700))
			cur := filepath.Join(dir, "cur")
			testkit.Must(t, c.make(dir, cur))
			path := filepath.Join(cur, "coins.json")
			testkit.WriteFile(t, path, `{"alice": "btc"}`)
			f, err := NewFile(path, 0, FileRules{})
			testkit.Must(t, err)
			looks, looked := make(chan time.Time), make(chan struct{})
			f.watch.looks = looks
			go func() {
				for {
					select {
					case looks <- time.Now():
						time.Sleep(20 * time.Millisecond)
					case <-looked:
						return
					}
				}
			}()
			stopLooking := sync.OnceFunc(func() { close(looked) })
			t.Cleanup(stopLooking)
			sink := newCoinRecorder()
			f.Start(sink)
			t.Cleanup(f.Close)
			wantLookup(t, f, "alice", "btc")
			testkit.Must(t, os.Mkdir(filepath.Join(dir, "new"), 0o700))
			testkit.WriteFile(t, filepath.Join(dir, "new", "coins.json"), `{"alice": "bcc"}`)
			testkit.Must(t, c.swap(dir, cur))
			sink.wantCoin(t, "alice", "bcc")
			// The watch is on the new folder: changes are seen without periodic
			// checks, except the first, which may come before the watch.
			for i := range 4 {
				coin := fmt.Sprintf("coin%d", i)
				testkit.WriteFile(t, path+".tmp", `{"alice": "`+coin+`"}`)
				testkit.Must(t, os.Rename(path+".tmp", path))
				sink.wantCoin(t, "alice", coin)
				if i == 0 {
					stopLooking()
				}
			}
			sink.wantQuiet(t)
		})
	}
}

// newIdleCoinFile returns a source that has not been started.
func newIdleCoinFile(t *testing.T, content string) (f *File, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "coins.json")
	testkit.WriteFile(t, path, content)
	f, err := NewFile(path, 1, FileRules{})
	testkit.Must(t, err)
	t.Cleanup(f.Close)
	return f, path
}

// The system reports no changes, as on a network file system, or cannot watch.
func TestCoinFileWithoutEvents(t *testing.T) {
	t.Parallel()
	f, path := newIdleCoinFile(t, `{"alice": "btc"}`)
	var asked atomic.Int32
	f.watch.newWatcher = func() (*fsnotify.Watcher, error) {
		asked.Add(1)
		return nil, errors.New("too many open files")
	}
	sink := newCoinRecorder()
	f.Start(sink)
	wantLookup(t, f, "alice", "btc")
	testkit.WriteFile(t, path, `{"alice": "bcc"}`)
	sink.wantCoin(t, "alice", "bcc")
	// This file has the same size, and by a coarse clock the same time.
	info, err := os.Stat(path)
	testkit.Must(t, err)
	testkit.WriteFile(t, path, `{"alice": "bsv"}`)
	testkit.Must(t, os.Chtimes(path, time.Time{}, info.ModTime()))
	sink.wantCoin(t, "alice", "bsv")
	if n := asked.Load(); n != 1 {
		t.Errorf("%d watchers were asked for, want only one now and then", n)
	}
}

// A watcher that fails again and again is closed.
func TestCoinFileWatcherFails(t *testing.T) {
	f, path := newIdleCoinFile(t, `{"alice": "btc"}`)
	failures := make(chan error)
	f.watch.newWatcher = func() (*fsnotify.Watcher, error) {
		watcher, err := fsnotify.NewWatcher()
		if err == nil {
			watcher.Errors = failures
		}
		return watcher, err
	}
	sink := newCoinRecorder()
	f.Start(sink)
	wantLookup(t, f, "alice", "btc")
	failures <- errors.New("bad file descriptor")
	testkit.WriteFile(t, path, `{"alice": "bcc"}`)
	sink.wantCoin(t, "alice", "bcc")
	select {
	case failures <- errors.New("bad file descriptor"):
		t.Error("a second error is read from a watcher that should be closed")
	default:
	}
}

// hangingReads simulates a file system whose server does not answer.
type hangingReads struct {
	hang   chan struct{} // closed when it answers
	inside atomic.Int32
	most   atomic.Int32
}

func (h *hangingReads) read(path string, limit int64) ([]byte, os.FileInfo, error) {
	h.most.Store(max(h.most.Load(), h.inside.Add(1)))
	defer h.inside.Add(-1)
	<-h.hang
	return regularfile.Read(path, limit)
}

// While a read hangs, miners are answered and Close does not wait.
func TestCoinFileHangs(t *testing.T) {
	f, path := newIdleCoinFile(t, `{"alice": "btc", "*": "btc"}`)
	h := &hangingReads{hang: make(chan struct{})}
	f.watch.read = h.read
	sink := newCoinRecorder()
	f.Start(sink)
	sink.wantID(t)
	testkit.WriteFile(t, path, `{"alice": "bcc", "*": "btc"}`)
	awaitTrue(t, "a read hangs", func() bool { return h.inside.Load() > 0 })
	wantLookup(t, f, "alice", "btc")
	wantLookup(t, f, "new", "btc")
	testkit.WriteFile(t, path, `{"alice": "bsv", "*": "btc"}`)
	close(h.hang)
	sink.wantCoin(t, "alice", "bsv")

	h.hang = make(chan struct{})
	testkit.WriteFile(t, path, `{"alice": "bcc", "*": "btc"}`)
	awaitTrue(t, "a read hangs", func() bool { return h.inside.Load() > 0 })
	closed := make(chan struct{})
	go func() {
		f.Close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(testLimit):
		t.Error("Close waits for the read that hangs")
	}
	if n := h.most.Load(); n != 1 {
		t.Errorf("%d reads at a time", n)
	}
	close(h.hang)
	f.watch.ended.Wait()
}

// If the file cannot be read after an upgrade, the previous coins are used. Miners
// of accounts that had no coin wait for the file.
func TestCoinFileResumed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "coins.json")
	resume := func(h *hangingReads) (*File, *coinRecorder) {
		var f *File
		fastest := time.Hour // of some, because a busy machine may stop the test at any time
		for range 5 {
			began := time.Now()
			f = ResumeFile(path, 7, FileRules{}, map[string]string{"alice": "btc", "bob": "btc"})
			fastest = min(fastest, time.Since(began))
			t.Cleanup(f.Close)
		}
		if fastest > time.Second/2 {
			t.Errorf("miners waited %v for the file, want no wait", fastest)
		}
		if h != nil {
			f.watch.read = h.read
		}
		sink := newCoinRecorder()
		f.Start(sink)
		t.Cleanup(f.Close)
		if id := sink.wantID(t); id != 7 {
			t.Errorf("got server ID %d, want 7", id)
		}
		return f, sink
	}
	hanging := func(t *testing.T) {
		h := &hangingReads{hang: make(chan struct{})}
		testkit.WriteFile(t, path, `{"alice": "bcc", "bob": "btc", "*": "bsv"}`)
		f, sink := resume(h)
		wantLookup(t, f, "alice", "btc")
		_, replies := askCoin(f, "new")
		gone, goneReplies := askCoin(f, "gone")
		f.Cancel(gone)
		wantLookup(t, f, "bob", "btc") // bob is asked for after new, so new's turn has passed
		select {
		case r := <-replies:
			t.Errorf("answered too early: %v", r)
		default:
		}
		close(h.hang)
		sink.wantCoin(t, "alice", "bcc")
		wantCoinReply(t, replies, coinReply{"new", "bsv", nil})
		select {
		case r := <-goneReplies:
			t.Errorf("answered after Cancel: %v", r)
		default:
		}
		sink.wantQuiet(t)
	}
	t.Run("hangs", hanging)
	t.Run("broken", func(t *testing.T) {
		testkit.WriteFile(t, path, `{"alice": `)
		f, sink := resume(nil)
		wantLookup(t, f, "alice", "btc")
		_, replies := askCoin(f, "new")
		testkit.WriteFile(t, path, `{"alice": "bcc"}`)
		sink.wantCoin(t, "alice", "bcc")
		wantCoinReply(t, replies, coinReply{"new", "", ErrUnknownSubAccount})
	})
	t.Run("good", func(t *testing.T) {
		testkit.WriteFile(t, path, `{"alice": "bcc", "*": "bsv"}`)
		f, _ := resume(nil)
		wantLookup(t, f, "alice", "bcc")
		wantLookup(t, f, "new", "bsv")
	})
}

// Some of the entries without effect are named, and the other entries are used.
func TestCoinFileWarnings(t *testing.T) {
	known := testRules("btc", "bcc")
	lower := known
	lower.LowerCase = true
	var many, coins strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&many, `"a.%d": "btc", `, i)
		fmt.Fprintf(&coins, `"a%d": "coin%d", `, i, i)
	}
	for _, c := range []struct {
		name, content string
		rules         FileRules
		entries       int
		warnings      []string // how the warnings begin
	}{
		{"all well", "\ufeff{\r\n\t\"alice\": \"btc \", \"a/b_c:d|e^f-9\": \"bcc\", \"*\": \"btc\"\r\n}\r\n", known, 3, nil},
		{"characters", `{"me@example": "btc", "al ice": "btc", "é": "btc", "bob": "bcc"}`, known, 1, []string{
			`sub-account "me@example" matches no miner: a name has only letters, digits and _:|^/-; other characters are dropped, which leaves "meexample"`,
			`sub-account "al ice" matches no miner: a name has only letters, digits and _:|^/-; other characters are dropped, which leaves "alice"`,
			`sub-account "é" matches no miner: a name has only letters, digits and _:|^/-`}},
		{"dots", `{"alice.rig1": "btc", ".rig": "btc", "alice": "bcc"}`, known, 1, []string{
			`sub-account "alice.rig1" matches no miner: a sub-account's name ends before the first dot of a worker's, here "alice"`,
			`sub-account ".rig" matches no miner: a sub-account's name ends`}},
		{"empty, long", `{"": "btc", "` + strings.Repeat("a", 129) + `": "btc", "` + strings.Repeat("b", 128) + `": "btc"}`, known, 1, []string{
			`sub-account "" matches no miner: the name is empty`,
			`sub-account "` + strings.Repeat("a", 80) + `…" matches no miner: the name has 129 bytes, at most 128 are allowed`}},
		{"case kept", `{"Alice": "btc", "alice": "bcc"}`, known, 2, nil},
		{"case", `{"Alice": "btc", "alice": "bcc"}`, lower, 1, []string{
			`sub-account "Alice" matches no miner: with StratumServerCaseInsensitive names are looked up in lower case, "alice"`}},
		{"coins", `{"a": "BTC", "b": "BTC", "*": "doge", "c": "btc"}`, known, 4, []string{
			`coin "BTC" of sub-account "a" and 1 more is not in StratumServerMap`,
			`coin "doge" of sub-account "*" is not in StratumServerMap`}},
		{"nothing", `{}`, known, 0, []string{"no entry can match a miner"}},
		{"many names", `{` + many.String() + `"*": "btc"}`, known, 1, append(slices.Repeat([]string{`sub-account "a.`}, 10), "990 more sub-accounts match no miner")},
		{"many coins", `{` + coins.String() + `"*": "btc"}`, known, 1001, append(slices.Repeat([]string{`coin "coin`}, 10), "990 more sub-accounts have coins that are not")},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "coins.json")
			testkit.WriteFile(t, path, c.content)
			got, err := readFile(path, c.rules)
			testkit.Must(t, err)
			if len(got.coins) != c.entries {
				t.Errorf("%d entries, want %d", len(got.coins), c.entries)
			}
			if len(got.warnings) != len(c.warnings) {
				t.Fatalf("got %q", got.warnings)
			}
			for i, want := range c.warnings {
				if !strings.HasPrefix(got.warnings[i], want) {
					t.Errorf("got  %s\nwant %s", got.warnings[i], want)
				}
			}
		})
	}
}

// The same problem is logged once, and a tool that writes bad files again and again
// does not fill the log.
func TestCoinFileProblemsAreBounded(t *testing.T) {
	f, _ := newIdleCoinFile(t, `{"alice": "btc"}`)
	logged := 0
	for i := range 1000 {
		f.accept(fileReport{err: fmt.Errorf("problem %d", i/2)})
		if f.problemLogged == f.problem {
			logged++
		}
	}
	if logged != 2*maxFileProblems {
		t.Errorf("%d of 1000 readings were logged", logged)
	}
}
