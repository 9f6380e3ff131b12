package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// handshakeRow is one line of a transcript in docs/handshakes.md.
type handshakeRow struct {
	who  string // "miner sends", "miner gets", "pool gets" or "pool sends"
	line string
	end  bool // true for the end of the connection instead of a line
}

// handshakeCase is one transcript.
type handshakeCase struct {
	chain string
	name  string
	rows  []handshakeRow
}

// handshakeCases reads docs/handshakes.md. Headings of the second level are chains,
// those of the third level are variants, and each variant has one table.
func handshakeCases(t testing.TB) []handshakeCase {
	t.Helper()
	text, err := os.ReadFile("docs/handshakes.md")
	if err != nil {
		t.Fatal(err)
	}
	var cases []handshakeCase
	chain := ""
	for n, line := range strings.Split(string(text), "\n") {
		switch {
		case strings.HasPrefix(line, "## "):
			chain = line[3:]
		case strings.HasPrefix(line, "### "):
			cases = append(cases, handshakeCase{chain: chain, name: line[4:]})
		case strings.HasPrefix(line, "| miner ") || strings.HasPrefix(line, "| pool "):
			who, cell, ok := strings.Cut(strings.TrimSuffix(line[2:], " |"), " | ")
			row := handshakeRow{who: who, end: cell == "the end of the connection"}
			if ok && !row.end {
				row.line = strings.ReplaceAll(strings.Trim(cell, "`"), `\|`, "|")
				ok = len(cell) >= 2 && cell[0] == '`' && cell[len(cell)-1] == '`'
			}
			if !ok || len(cases) == 0 {
				t.Fatalf("docs/handshakes.md:%d is not a row of a transcript: %s", n+1, line)
			}
			c := &cases[len(cases)-1]
			c.rows = append(c.rows, row)
		}
	}
	return cases
}

// startScripted starts a switcher for handshake tests: alice and dave mine btc and
// bcc, whose pools are scripted, bob a coin that is not configured, and carol one
// whose pool is down.
func startScripted(t testing.TB, chain string, change func(*Config)) (sw *testSwitcher, btc, bcc *testkit.ScriptedPool) {
	t.Helper()
	btc, bcc = testkit.StartScriptedPool(t), testkit.StartScriptedPool(t)
	coins := newMemoryCoins(map[string]string{"alice": "btc", "dave": "bcc", "bob": "doge", "carol": "ltc"})
	sw = startSwitcher(t, coins, nil, func(c *Config) {
		c.ChainType = chain
		c.StratumServerMap = map[string]StratumServerInfo{
			"btc": {URL: btc.Addr(), UserSuffix: "btc"},
			"bcc": {URL: bcc.Addr(), UserSuffix: "bcc"},
			"ltc": {URL: unusedAddr(t), UserSuffix: "ltc"},
		}
		if change != nil {
			change(c)
		}
	})
	return sw, btc, bcc
}

// feeding is the way in which a miner's bytes arrive.
type feeding struct {
	name      string
	pipelined bool // everything up to the authorization arrives at once
	chunk     int  // size of the pieces; 0 means whole lines
}

var feedings = []feeding{{"one by one", false, 0}, {"pipelined", true, 0}, {"in pieces", true, 7}}

func (f feeding) send(r *stratumtest.Raw, text string) {
	if f.chunk == 0 {
		r.Send(text)
		return
	}
	for len(text) > 0 {
		n := min(f.chunk, len(text))
		r.Send(text[:n])
		text = text[n:]
	}
}

// run plays a transcript.
func (c *handshakeCase) run(t *testing.T, f feeding) {
	sw, pool, _ := startScripted(t, c.chain, nil)
	miner := stratumtest.DialRaw(t, sw.addr)
	rows := c.rows
	if f.pipelined {
		rows = c.pipelined()
	}
	var link *stratumtest.Raw
	closed := false
	said := ""
	for _, row := range rows {
		if said != "" && row.who != "pool sends" {
			link.Send(said) // consecutive lines of the pool are sent at once
			said = ""
		}
		switch {
		case row.who == "miner sends":
			f.send(miner, row.line+"\n")
		case row.who == "miner gets" && row.end:
			miner.ExpectClosed()
			closed = true
		case row.who == "miner gets":
			miner.ExpectLine(row.line)
		case row.who == "pool gets" && row.end:
			link.ExpectClosed()
			link = nil
		case row.who == "pool gets":
			if link == nil {
				link = pool.Next()
			}
			link.ExpectLine(row.line)
		case row.who == "pool sends" && link != nil:
			said += row.line + "\n"
		default:
			t.Fatalf("%s: %s", row.who, row.line)
		}
	}
	if said != "" {
		link.Send(said)
	}
	if !closed {
		expectNoMore(t, sw, miner, link)
	}
	if len(pool.Conns) > 0 {
		t.Errorf("there was another connection to the pool")
	}
}

// pipelined moves everything that the miner sends before the pool is connected into
// one row at the front.
func (c *handshakeCase) pipelined() []handshakeRow {
	var lines []string
	var rest []handshakeRow
	reached := false
	for _, row := range c.rows {
		reached = reached || strings.HasPrefix(row.who, "pool ")
		if row.who == "miner sends" && !reached {
			lines = append(lines, row.line)
			continue
		}
		rest = append(rest, row)
	}
	return append([]handshakeRow{{who: "miner sends", line: strings.Join(lines, "\n")}}, rest...)
}

// expectNoMore checks, with one more request and its answer, that nothing else was
// on its way to either side.
func expectNoMore(t testing.TB, sw *testSwitcher, miner, link *stratumtest.Raw) {
	t.Helper()
	const end = `{"id":"end","method":"mining.get_transactions","params":[]}`
	miner.SendLine(end)
	if sw.sessionsIn(phaseRelaying) == 1 {
		link.ExpectLine(end)
		link.SendLine(`{"id":"end","result":1,"error":null}`)
		miner.ExpectLine(`{"id":"end","result":1,"error":null}`)
		return
	}
	switch got := miner.Line(stratumtest.Patience); got {
	case `{"id":"end","result":[],"error":null}`, `{"id":"end","jsonrpc":"2.0","result":[]}`:
	default:
		t.Errorf("the miner got one more line: %s", got)
	}
}

// TestSessionHandshakeDocument plays each transcript of docs/handshakes.md.
func TestSessionHandshakeDocument(t *testing.T) {
	t.Parallel()
	cases := handshakeCases(t)
	if len(cases) < 60 {
		t.Errorf("there are only %d transcripts", len(cases))
	}
	for _, c := range cases {
		for _, f := range feedings {
			if c.name == "not Stratum" && f.chunk > 0 {
				continue // the connection is closed at the first piece
			}
			t.Run(c.chain+"/"+c.name+"/"+f.name, func(t *testing.T) {
				if len(c.rows) == 0 {
					t.Fatal("the transcript has no rows")
				}
				c.run(t, f)
			})
		}
	}
}

// These are shared by the tests of single rules: lines of a bitcoin miner with the
// first session of server 1, and of its pool.
const (
	textSubscribe  = `{"id":1,"method":"mining.subscribe","params":["cgminer/4.11.1"]}`
	textSubscribed = `{"id":1,"result":[[["mining.set_difficulty","01000080"],["mining.notify","01000080"]],"01000080",8],"error":null}`
	textAuthorize  = `{"id":2,"method":"mining.authorize","params":["alice.rig1","x"]}`

	textPoolSubscribe  = `{"id":2147400000,"method":"mining.subscribe","params":["cgminer/4.11.1","01000080",2130706433]}`
	textPoolSubscribed = `{"id":2147400000,"result":[[["mining.set_difficulty","01000080"],["mining.notify","01000080"]],"01000080",8],"error":null}`
	textPoolAuthorize  = `{"id":2147400001,"method":"mining.authorize","params":["alice.rig1","x"]}`
	textPoolAuthorized = `{"id":2147400001,"result":true,"error":null}`

	textDifficulty = `{"id":null,"method":"mining.set_difficulty","params":[4096]}`
	textJob        = `{"id":null,"method":"mining.notify","params":["j1","00","01","02",[],"20000000","1703a30c","5e9a5c3b",false]}`
	textCleanJob   = `{"id":null,"method":"mining.notify","params":["j1","00","01","02",[],"20000000","1703a30c","5e9a5c3b",true]}`
)

func joinLines(list ...string) string { return strings.Join(list, "\n") + "\n" }

// expectLines wants exactly these lines next.
func expectLines(r *stratumtest.Raw, want ...string) {
	for _, line := range want {
		r.ExpectLine(line)
	}
}

// expectWrite wants exactly these lines in one read, because they were sent in one
// write.
func expectWrite(t testing.TB, r *stratumtest.Raw, want string) {
	t.Helper()
	r.Conn().SetReadDeadline(time.Now().Add(stratumtest.Patience))
	b := make([]byte, 1<<16)
	n, err := r.Conn().Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if got := string(b[:n]); got != want {
		t.Fatalf("in one write\n got %q\nwant %q", got, want)
	}
}

func subscribeAnswer(id, x string) string {
	return fmt.Sprintf(`{"id":%s,"result":[[["mining.set_difficulty","%s"],["mining.notify","%s"]],"%s",8],"error":null}`, id, x, x, x)
}
