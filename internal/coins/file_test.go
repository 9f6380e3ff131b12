package coins

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/strictjson"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// testRules are the rules of a configuration that has pools for these coins.
func testRules(coins ...string) FileRules {
	rules := FileRules{Coins: make(map[string]bool), NameCharacters: "letters, digits and _:|^/-"}
	for _, coin := range coins {
		rules.Coins[coin] = true
	}
	rules.FilterName = func(name string) string {
		return strings.Map(func(r rune) rune {
			switch {
			case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune("._:|^/-", r):
				return r
			}
			return -1
		}, name)
	}
	return rules
}

func startCoinFile(t *testing.T, path string) (*File, *coinRecorder) {
	t.Helper()
	f, err := NewFile(path, 0, FileRules{})
	if err != nil {
		t.Fatal(err)
	}
	sink := newCoinRecorder()
	f.Start(sink)
	t.Cleanup(f.Close)
	return f, sink
}

func TestCoinFileChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "coins.json")
	testkit.WriteFile(t, path, `{"alice": "btc", "bob": "bcc", "*": "btc"}`)
	f, sink := startCoinFile(t, path)
	if id := sink.wantID(t); id != 1 {
		t.Errorf("server ID %d, want 1", id)
	}
	wantLookup(t, f, "alice", "btc")
	wantLookup(t, f, "bob", "bcc")
	wantLookup(t, f, "carol", "btc")
	wantLookup(t, f, "a/b", "btc") // it is not a path in ZooKeeper, so it does no harm
	f.Release("a/b")
	wantLookupError(t, f, "", ErrBadSubAccount)
	wantLookupError(t, f, strings.Repeat("a", MaxName+1), ErrBadSubAccount)

	testkit.WriteFile(t, path, `{"alice": "bcc", "bob": "bcc", "*": "btc"}`)
	sink.wantCoin(t, "alice", "bcc")

	// Editors replace files by rename.
	testkit.WriteFile(t, path+".new", `{"alice": "bcc", "bob": "bcc", "*": "bcc"}`)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	sink.wantCoin(t, "carol", "bcc")

	// An account that is no longer named gets the coin of "*", or none if there is
	// no "*".
	testkit.WriteFile(t, path, `{"bob": "bcc", "*": "btc", "carol": "bcc"}`)
	sink.wantCoin(t, "alice", "btc")
	testkit.WriteFile(t, path, `{"bob": "bcc", "carol": "bcc"}`)
	sink.wantCoin(t, "alice", "")
	wantLookupError(t, f, "alice", ErrUnknownSubAccount)
	testkit.WriteFile(t, path, `{"bob": "bcc", "carol": "bcc", "alice": "btc"}`)
	sink.wantCoin(t, "alice", "btc")
	sink.wantQuiet(t)
}

func TestCoinFileSwappedLinks(t *testing.T) {
	// The links are those of a Kubernetes volume: coins.json -> ..data/coins.json,
	// ..data -> ..1
	dir := t.TempDir()
	for version, coin := range map[string]string{"..1": "btc", "..2": "bcc"} {
		if err := os.Mkdir(filepath.Join(dir, version), 0o700); err != nil {
			t.Fatal(err)
		}
		testkit.WriteFile(t, filepath.Join(dir, version, "coins.json"), `{"alice": "`+coin+`"}`)
	}
	link := func(target, name string) {
		t.Helper()
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	link("..1", "..data")
	link("..data/coins.json", "coins.json")
	f, sink := startCoinFile(t, filepath.Join(dir, "coins.json"))
	wantLookup(t, f, "alice", "btc")
	link("..2", "..data_tmp")
	if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	sink.wantCoin(t, "alice", "bcc")
	if err := os.RemoveAll(filepath.Join(dir, "..1")); err != nil {
		t.Fatal(err)
	}
	// This writes to the file where the link leads.
	testkit.WriteFile(t, filepath.Join(dir, "..2", "coins.json"), `{"alice": "btc"}`)
	sink.wantCoin(t, "alice", "btc")
}

func TestCoinFileBrokenKeepsTheLastGoodOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "coins.json")
	testkit.WriteFile(t, path, `{"alice": "btc"}`)
	f, sink := startCoinFile(t, path)
	wantLookup(t, f, "alice", "btc")
	for _, breakIt := range []func(){
		func() { replaceFile(t, path, `{"alice": `) },
		func() { replaceFile(t, path, ``) },
		func() { replaceFile(t, path, `{"alice": ""}`) },
		func() { os.Remove(path) },
	} {
		before := make(chan string)
		f.mail.post(func() { before <- f.problem })
		was := <-before
		breakIt()
		awaitTrue(t, "reported", func() bool {
			problem := make(chan string)
			f.mail.post(func() { problem <- f.problem })
			now := <-problem
			return now != "" && now != was
		})
		wantLookup(t, f, "alice", "btc")
	}
	sink.wantQuiet(t)
	testkit.WriteFile(t, path, `{"alice": "bcc"}`)
	sink.wantCoin(t, "alice", "bcc")
}

// replaceFile gives a file another content in one step, so that nobody reads a half written
// file.
func replaceFile(t *testing.T, path, text string) {
	t.Helper()
	testkit.WriteFile(t, path+".new", text)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// The sink learns of each content that is taken or refused, also of the former content
// when it is back.
func TestCoinFileReadingsAreReported(t *testing.T) {
	path := filepath.Join(t.TempDir(), "coins.json")
	testkit.WriteFile(t, path, `{"alice": "btc"}`)
	_, sink := startCoinFile(t, path)
	replace := func(text string) { replaceFile(t, path, text) }
	replace(`{"alice": "btc", "bob": "bcc"}`)
	sink.wantRead(t, 2, "")
	replace(`{"alice": ""}`)
	sink.wantRead(t, 0, path)
	replace(`{"alice": "btc", "bob": "bcc"}`)
	sink.wantRead(t, 2, "")
	replace(`{"alice": "bcc"}`)
	sink.wantRead(t, 1, "")
	if len(sink.reads) > 0 {
		t.Errorf("got the reading %+v, want no more", <-sink.reads)
	}
}

func TestCoinFileErrors(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "coins.json")
	if _, err := NewFile(path, 1, FileRules{}); err == nil || !strings.Contains(err.Error(), "coin file: open ") {
		t.Errorf("a missing file: got error %v", err)
	}
	for _, c := range []struct{ content, want string }{
		{``, `:1:1: the file is empty`},
		{`[]`, `:1:1: must be an object of sub-accounts and coins`},
		{`"btc"`, `:1:1: must be an object of sub-accounts and coins`},
		{`{"a": 1}`, `:1:7: sub-account "a": the coin must be a string`},
		{"{\n  \"a\": \"btc\",\n  \"b\": {}\n}", `:3:8: sub-account "b": the coin must be a string`},
		{`{"a": null}`, `:1:7: sub-account "a": the coin must be a string`},
		{`{"a": ""}`, `:1:7: sub-account "a": the coin is empty`},
		{`{"a": " "}`, `:1:7: sub-account "a": the coin is empty`},
		{`{"a": "b\nc"}`, `:1:7: sub-account "a": "b\nc" is not a coin's name`},
		{"\ufeff{\n\"a\": 1}", `:2:6: sub-account "a": the coin must be a string`},
		{"\xff\xfe{\x00}\x00", `: the file is in UTF-16, must be in UTF-8`},
		{`{"` + strings.Repeat("a", 1000) + `": 1}`, `:1:1006: sub-account "` + strings.Repeat("a", 80) + `…": the coin must be a string`},
		{"{\"a\": \"btc\",\n\"a\": \"bcc\"}", `:2:1: sub-account "a" appears twice`},
		{`{"a": "btc"} x`, `:1:14: there is more text after the end of the first value`},
		{`{"a": "btc"`, `:1:12: the file ends too early`},
		{"{\"a\": \"btc\",\n\"b\" \"bcc\"}", `:2:5: a colon is missing between key and value`},
		{"{\"a\": \"btc\",}", `:1:13: a comma too many before }`},
	} {
		testkit.WriteFile(t, path, c.content)
		f, err := NewFile(path, 1, FileRules{})
		if err == nil {
			f.Close()
			t.Errorf("%s: accepted, want an error", c.content)
			continue
		}
		if want := "coin file " + path + c.want; !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s:\n got %v\nwant %s", c.content, err, want)
		}
	}
}

func TestCoinFileReleasedAccountsAreForgotten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "coins.json")
	testkit.WriteFile(t, path, `{"*": "btc"}`)
	f, sink := startCoinFile(t, path)
	for i := range 1000 {
		name := "made-up" + strconv.Itoa(i)
		wantLookup(t, f, name, "btc")
		f.Release(name)
	}
	wantLookup(t, f, "alice", "btc")
	testkit.WriteFile(t, path, `{"*": "bcc"}`)
	sink.wantCoin(t, "alice", "bcc")
	sink.wantQuiet(t)
	n := make(chan int)
	f.mail.post(func() { n <- len(f.used) })
	if got := <-n; got != 1 {
		t.Errorf("%d accounts are kept, want 1", got)
	}
}

func TestCoinFileClose(t *testing.T) {
	path := filepath.Join(t.TempDir(), "coins.json")
	testkit.WriteFile(t, path, `{"*": "btc"}`)
	f, sink := startCoinFile(t, path)
	sink.wantID(t)
	f.Close()
	f.Close()
	wantLookupError(t, f, "alice", ErrClosed)

	f, err := NewFile(path, 9, FileRules{})
	if err != nil {
		t.Fatal(err)
	}
	_, replies := askCoin(f, "alice")
	f.Close()
	wantCoinReply(t, replies, coinReply{"alice", "", ErrClosed})
}

func FuzzCoinFile(f *testing.F) {
	f.Add([]byte(`{"alice": "btc", "*": "bcc"}`))
	f.Add([]byte(`{"a": {"b": 1}} x`))
	f.Add([]byte(` [ "`))
	f.Fuzz(func(t *testing.T, content []byte) {
		rules := testRules("btc")
		rules.LowerCase = len(content)%2 == 0
		coins, warnings, err := parseFile(content, rules)
		if e, ok := errors.AsType[*strictjson.Error](err); ok {
			lines := bytes.Split(content, []byte("\n"))
			if e.Line < 1 || e.Line > len(lines) || e.Column < 1 || e.Column > len(lines[e.Line-1])+1 {
				t.Fatalf("the error is at line %d, column %d, which %q does not have", e.Line, e.Column, content)
			}
		}
		if err != nil {
			return
		}
		for account, coin := range coins {
			if account != anySubAccount && rules.neverMatches(account) != "" || coin == "" {
				t.Fatalf("unusable entry: sub-account %q, coin %q", account, coin)
			}
		}
		if text := strings.Join(warnings, "\n"); len(text) > 10000 || len(warnings) > 2*maxFileWarnings+3 {
			t.Fatalf("%d warnings of %d bytes are too many", len(warnings), len(text))
		}
		for _, warning := range warnings {
			if strings.ContainsFunc(warning, unicode.IsControl) {
				t.Fatalf("the warning has a control character: %q", warning)
			}
		}
	})
}
