package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// pad returns a request of exactly n bytes, including the end of the line.
func pad(n int) string {
	const head, tail = `{"id":5,"method":"mining.suggest_target","params":["`, `"]}` + "\n"
	return head + strings.Repeat("a", n-len(head)-len(tail)) + tail
}

func TestSessionLineLimit(t *testing.T) {
	t.Parallel()
	sw, btc := startHostile(t)
	for _, stage := range []struct {
		name string
		dial func(*testing.T) *stratumtest.Raw
	}{
		{"fresh", func(t *testing.T) *stratumtest.Raw { return stratumtest.DialRaw(t, sw.addr) }},
		{"subscribed", func(t *testing.T) *stratumtest.Raw { return dialSubscribed(t, sw.addr) }},
		{"mining", func(t *testing.T) *stratumtest.Raw { return dialMining(t, sw.addr) }},
	} {
		t.Run(stage.name, func(t *testing.T) {
			r := stage.dial(t)
			r.Send(pad(stratum.MaxMinerLine))
			r.ExpectLine(`{"id":5,"result":true,"error":null}`)
			r.Send(pad(stratum.MaxMinerLine + 1))
			r.ExpectClosed()

			r = stage.dial(t)
			r.Send(`{"id":5,` + strings.Repeat(" ", stratum.MaxMinerLine-8))
			r.Send(" ")
			r.ExpectClosed()

			// This is 1 MB without a line's end. Whatever the kernel still buffers,
			// the connection is closed.
			r = stage.dial(t)
			r.Conn().SetDeadline(time.Now().Add(testWait))
			n, err := io.Copy(r.Conn(), strings.NewReader("{"+strings.Repeat("a", 64<<20)))
			if err == nil || testkit.IsTimeout(err) {
				t.Errorf("%d bytes without a line's end were accepted: %v", n, err)
			}
		})
	}
	eventually(t, "all are closed", func() bool { return sw.sessionCount() == 0 })
	checkFaults(t, btc)
}

// Many connections that send endless lines at the same time hold no more than one
// read each.
func TestSessionEndlessLinesBoundMemory(t *testing.T) {
	sw, _ := startHostile(t)
	stop := make(chan struct{})
	var most uint64
	var watch, senders sync.WaitGroup
	var before runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	watch.Go(func() {
		for {
			var now runtime.MemStats
			runtime.ReadMemStats(&now)
			most = max(most, now.HeapInuse)
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	})
	line := append([]byte("{"), bytes.Repeat([]byte{'a'}, 1<<20)...)
	for range 200 {
		senders.Go(func() {
			nc, err := net.Dial("tcp", sw.addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer nc.Close()
			nc.SetDeadline(time.Now().Add(testWait))
			nc.Write(line)
			if _, err := nc.Read(make([]byte, 1)); err == nil || testkit.IsTimeout(err) {
				t.Errorf("a connection that sent 1 MB without a line's end is not closed: %v", err)
			}
		})
	}
	senders.Wait()
	close(stop)
	watch.Wait()
	sw.wantNothingLeft(t)
	if grown := int64(most) - int64(before.HeapInuse); grown > 64<<20 {
		t.Errorf("the heap grew by %d MB", grown>>20)
	}
}

func TestSessionNotStratum(t *testing.T) {
	sw, btc := startHostile(t)
	garbage := make([]byte, 4096)
	for i := range garbage {
		garbage[i] = byte(i*7 + i>>8)
	}
	for name, bytes := range map[string]string{
		"RDP":           "\x03\x00\x00\x13\x0e\xe0\x00\x00\x00\x00\x00\x01\x00\x08\x00\x03\x00\x00\x00",
		"TLS":           "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"HTTP":          "GET / HTTP/1.1\r\nHost: pool\r\n\r\n",
		"SSH":           "SSH-2.0-OpenSSH_9.2\r\n",
		"zeros":         strings.Repeat("\x00", 100),
		"line ends":     strings.Repeat("\r\n", 9),
		"spaces":        strings.Repeat(" ", 17) + "{",
		"array":         `[{"id":1,"method":"mining.subscribe","params":[]}]` + "\n",
		"agent message": "\x7f\x01\x04\x00",
		"garbage":       string(garbage[1:]),
		"garbage lines": "{" + string(garbage) + strings.Repeat("\n{\xff\xfe\n", 10),
		"not JSON":      strings.Repeat("{nonsense}\n", 6),
	} {
		t.Run(name, func(t *testing.T) {
			r := stratumtest.DialRaw(t, sw.addr)
			r.Send(bytes)
			r.ExpectClosed()
		})
	}
	t.Run("some lines that are not JSON", func(t *testing.T) {
		r := stratumtest.DialRaw(t, sw.addr)
		r.Send("{nonsense}\n\n\r\n\x03\xff\n[]\n5\n\"x\"\n" + rawSubscribe + "\n")
		r.ExpectLine(`{"id":null,"result":null,"error":[20,"Batches Are Not Supported",1]}`)
		r.ExpectLine(`{"id":1,"result":[[["mining.set_difficulty","01000080"],["mining.notify","01000080"]],"01000080",8],"error":null}`)
	})
	t.Run("garbage while mining", func(t *testing.T) {
		r := dialMining(t, sw.addr)
		r.Send("\x03\x00\x00\x13\x0e\xe0")
		r.ExpectNothing(20 * time.Millisecond)
		r.Close()
	})
	sw.wantNothingLeft(t)
	checkFaults(t, btc)
}

func TestSessionJSONBombs(t *testing.T) {
	sw, btc := startHostile(t)
	deep := func(open, inner, end string, size int) string {
		n := (size - len(inner)) / (len(open) + len(end))
		return strings.Repeat(open, n) + inner + strings.Repeat(end, n)
	}
	const room = stratum.MaxMinerLine - 200
	for name, line := range map[string]string{
		"arrays as parameters":  `{"id":1,"method":"mining.authorize","params":` + deep("[", "", "]", room) + `}`,
		"objects as parameters": `{"id":1,"method":"mining.configure","params":` + deep(`{"a":`, "1", "}", room) + `}`,
		"arrays in configure":   `{"id":1,"method":"mining.configure","params":[["version-rolling"],` + deep("[", "", "]", room) + `]}`,
		"unknown field":         `{"id":1,"x":` + deep("[", "", "]", room) + `,"method":"mining.subscribe","params":[]}`,
		"extensions":            `{"id":1,"method":"mining.configure","params":[[` + strings.Repeat(`"a",`, 4000) + `"b"]]}`,
		"many fields":           `{` + strings.Repeat(`"id":1,`, 2000) + `"method":"mining.subscribe","params":[]}`,
		"exponent":              `{"id":1e999999999,"method":"mining.subscribe","params":[1e999999999]}`,
		"open only":             `{"id":1,"method":"mining.authorize","params":` + strings.Repeat("[", room),
		"id":                    `{"id":` + deep("[", "", "]", room) + `,"method":"mining.subscribe","params":[]}`,
		"surrogates":            `{"id":1,"method":"mining.subscribe","params":["\ud800\udc00\ud800"]}`,
		"NUL":                   `{"id":1,"method":"mining.subscribe","params":["\u0000"]}`,
	} {
		t.Run(name, func(t *testing.T) {
			r := stratumtest.DialRaw(t, sw.addr)
			r.SendLine(line)
			// There may be an answer or none, but the switcher must go on.
			r.SendLine(`{"id":"next","method":"mining.extranonce.subscribe","params":[]}`)
			for {
				answer := r.Line(stratumtest.Patience)
				if !json.Valid([]byte(answer)) {
					t.Fatalf("the answer is not JSON: %.200q", answer)
				}
				if answer == `{"id":"next","result":true,"error":null}` {
					break
				}
			}
			r.Close()
		})
	}
	sw.wantNothingLeft(t)
	checkFaults(t, btc)
}

// Ids are sent back as they came, whatever they are.
func TestSessionOddIDs(t *testing.T) {
	sw, btc := startHostile(t)
	for _, id := range []string{
		`0`, `-1`, `1.50`, `1e3`, `123456789012345678901234567890`, `1E300`, `true`, `null`,
		`""`, `"1"`, `"a\"b\\c\/d"`, `"\u0041\ud83d\ude00"`, `"ü"`, `"<b>&amp;</b>"`, `"{\"method\":\"mining.submit\"}"`,
		`[]`, `[1,"2"]`, `{}`, `{"a":{"b":[1,2,{"c":null}]}}`, `{"id":2,"method":"x"}`,
		`"` + strings.Repeat("i", 4000) + `"`,
	} {
		r := stratumtest.DialRaw(t, sw.addr)
		want := func(rest string) {
			t.Helper()
			got := r.Line(stratumtest.Patience)
			if !strings.HasPrefix(got, `{"id":`+id+`,"result":`) || !strings.HasSuffix(got, rest) {
				t.Fatalf("id %.100s: got %.300s, want %s", id, got, rest)
			}
		}
		r.SendLine(`{"id":` + id + `,"method":"mining.configure","params":[["version-rolling","x"],{"version-rolling.mask":"ffffffff"}]}`)
		want(`"result":{"version-rolling":true,"version-rolling.mask":"ffffffff","x":false},"error":null}`)
		r.SendLine(`{"method":"mining.subscribe","params":[],"id" : ` + id + ` }`)
		want(`8],"error":null}`)
		r.SendLine(`{"id":` + id + `,"method":"mining.subscribe","params":[]}`)
		want(`"error":[102,"Duplicate Subscribed",1]}`)
		r.SendLine(`{"id":` + id + `,"method":"mining.authorize","params":["alice.1"]}`)
		want(`"result":true,"error":null}`)
		r.ExpectMethod("mining.set_version_mask")
		r.ExpectMethod("mining.set_difficulty")
		r.ExpectMethod("mining.notify")
		if id != `null` { // null would make it a notification
			r.SendLine(`{"id":` + id + `,"method":"mining.extranonce.subscribe","params":[]}`)
			want(`"result":true,"error":null}`)
		}
		r.Close()
	}
	sw.wantNothingLeft(t)
	checkFaults(t, btc)
}

// Only the characters that a worker's name may have reach the pool.
func TestSessionWorkerNames(t *testing.T) {
	sw, btc := startHostile(t)
	for sent, want := range map[string]string{
		`alice.plain`:                              "alice.plain",
		`al\u0000i\u001bc\ne.contr\tol\u007f`:      "alice.control",
		`alice.<script>alert(1)</script>`:          "alice.scriptalert1/script",
		`a l i c e . space`:                        "alice.space",
		`alice.ümläut😀`:                            "alice.mlut",
		`alice.\"quote\\back`:                      "alice.quoteback",
		`alice.a/b/../../c`:                        "alice.a/b/../../c",
		`alice...dots.`:                            "alice...dots.",
		`alice.a:b|c^d_e-f`:                        "alice.a:b|c^d_e-f",
		`alice`:                                    "alice",
		`alice.` + strings.Repeat("n", 2000):       "alice." + strings.Repeat("n", 2000),
		`alice.\u202e\ufeffbidi`:                   "alice.bidi",
		`alice.%2e%2e;drop`:                        "alice.2e2edrop",
		`\u0061lice.escaped`:                       "alice.escaped",
		`alice.','x'],method:mining.submit,params`: "alice.xmethod:mining.submitparams",
	} {
		r := dialSubscribed(t, sw.addr)
		r.SendLine(`{"id":2,"method":"mining.authorize","params":["` + sent + `","x"]}`)
		r.ExpectLine(`{"id":2,"result":true,"error":null}`)
		names := btc.Authorized()
		if got := names[len(names)-1]; got != want {
			t.Errorf("%q reached the pool as %q, want %q", sent, got, want)
		}
		r.Close()
	}
	// Names that lead to other directories are not sub-accounts.
	for _, name := range []string{"alice/..", "/alice", "alice/", "a/alice.1", "-", "|"} {
		r := dialSubscribed(t, sw.addr)
		r.SendLine(`{"id":2,"method":"mining.authorize","params":["` + name + `","x"]}`)
		r.ExpectLine(`{"id":2,"result":null,"error":[201,"Invalid Sub-account Name",1]}`)
		r.ExpectClosed()
	}
	sw.wantNothingLeft(t)
	checkFaults(t, btc)
}
