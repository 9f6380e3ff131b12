package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/coins"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// fuzzLines are lines to begin with: all of the transcripts, and some of the
// worse kind.
func fuzzLines(f *testing.F) []string {
	seen := make(map[string]bool)
	all := []string{
		``, `{}`, `{"id":1}`, `[]`, `null`, `{"id":{"method":"x"},"method":"y"}`, `{"a\"method":"x"}`, `{"method":"a\"b","params":["\\"]}`,
		`{"params" : [ "a" , "b\"" , 1 ] , "method" : "mining.submit" }`, `{"id":"params","params":["a"]}`, `{"params":[[],false],"method":"mining.notify"}`,
	}
	for _, c := range handshakeCases(f) {
		for _, row := range c.rows {
			if !row.end && !seen[row.line] {
				seen[row.line] = true
				all = append(all, row.line)
			}
		}
	}
	return all
}

// plainObject decodes a line that no byte search can mistake: an object
// without a line end, without escapes and without objects inside, that has
// each member once and names one of them nowhere else.
func plainObject(line []byte, member string) map[string]json.RawMessage {
	if !json.Valid(line) || bytes.ContainsAny(line, "\\\r\n") || bytes.Count(line, []byte("{")) != 1 || bytes.Count(line, []byte(`"`+member+`"`)) > 1 {
		return nil
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(line, &object) != nil {
		return nil
	}
	return object
}

func FuzzParseRequest(f *testing.F) {
	for _, line := range fuzzLines(f) {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := parseRequest(line)
		if err != nil {
			return
		}
		if !json.Valid(line) && !json.Valid(bytes.TrimSpace(line)) {
			t.Fatalf("not JSON, but taken: %+v", r)
		}
		// All raw parts are JSON, so whatever is built of them is.
		for _, raw := range append(r.paramList(), r.ID, r.Params) {
			if len(raw) > 0 && !json.Valid(raw) {
				t.Fatalf("not JSON: %q", raw)
			}
		}
		for _, d := range []dialect{dialectStratum, dialectRPC2} {
			checkAnswer(t, d.appendResult(nil, r.ID, []byte("true")))
			checkAnswer(t, d.appendError(nil, r.ID, errNeedSubscribed, 1))
		}
		var params [][]byte
		for _, p := range r.paramList() {
			params = append(params, p)
		}
		checkAnswer(t, appendRequest(nil, orNull(r.ID), r.Method, params...))
		if a, err := parseResponse(line); err == nil {
			for _, d := range []dialect{dialectStratum, dialectRPC2} {
				checkAnswer(t, d.appendForwarded(nil, r.ID, a))
			}
			for _, c := range allChains {
				for _, p := range []minerProtocol{protocolStratum, protocolEthereumStratum, protocolETHProxy} {
					c.checkPoolSubscribe(&subscription{UserAgent: r.Method, Protocol: p}, 0x01020304, a.Result)
				}
			}
		}
		versionMaskOf(r)
		for _, c := range allChains {
			s := c.newSubscription(r.paramList())
			checkAnswer(t, append(c.subscribeResult(s, 0x01020304), '\n'))
			for _, p := range c.poolSubscribeParams(s, 0x01020304, netip.AddrFrom4([4]byte{12, 34, 56, 78})) {
				checkAnswer(t, append(p, '\n'))
			}
		}
	})
}

// checkAnswer wants JSON on one line.
func checkAnswer(t *testing.T, b []byte) {
	t.Helper()
	if !json.Valid(b) || bytes.IndexByte(b, '\n') != len(b)-1 {
		t.Fatalf("not one line of JSON: %q", b)
	}
}

func FuzzLineMethod(f *testing.F) {
	for _, line := range fuzzLines(f) {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		got := lineMethod(line)
		if !bytes.Contains(line, got) {
			t.Fatalf("%q is not in the line", got)
		}
		poolLineKind(line)
		minerLineKind(line)
		object := plainObject(line, "method")
		if object == nil {
			return
		}
		var want []byte
		if raw := object["method"]; len(raw) > 0 && raw[0] == '"' {
			want = raw[1 : len(raw)-1]
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("%q: %q, want %q", line, got, want)
		}
	})
}

func FuzzStringParam(f *testing.F) {
	for i, line := range fuzzLines(f) {
		f.Add([]byte(line), i%3)
	}
	f.Fuzz(func(t *testing.T, line []byte, n int) {
		if n < 0 || n > 10 {
			return
		}
		got := scalarParam(line, n)
		if !bytes.Contains(line, got) {
			t.Fatalf("%q is not in the line", got)
		}
		object := plainObject(line, "params")
		if object == nil {
			return
		}
		var params []json.RawMessage
		var want []byte
		found := json.Unmarshal(object["params"], &params) == nil && n < len(params)
		if found {
			want = bytes.TrimSuffix(bytes.TrimPrefix(params[n], []byte(`"`)), []byte(`"`))
			found = params[n][0] == '"' || isNumber(params[n])
		}
		if !found {
			want = nil
		}
		if found != (got != nil) || !bytes.Equal(got, want) {
			t.Fatalf("%q %d: %q, want %q", line, n, got, want)
		}
	})
}

func FuzzSetClean(f *testing.F) {
	for _, line := range fuzzLines(f) {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		before := string(line)
		got := setClean(chainBitcoin, line)
		if string(line) != before {
			t.Fatalf("the line was changed in place: %q", before)
		}
		if json.Valid(line) && !json.Valid(got) {
			t.Fatalf("%q became %q", line, got)
		}
		if !bytes.Equal(got, line) {
			// One flag became true, or true was added.
			added := bytes.TrimSuffix(got[len(commonPrefix(line, got)):], commonSuffix(line, got))
			if len(added) > len(",true") {
				t.Fatalf("%q became %q", line, got)
			}
		}
		object := plainObject(line, "params")
		if object == nil || bytes.Count(line, []byte("false")) > 1 || bytes.Contains(line, []byte(`false"`)) {
			return
		}
		var params []json.RawMessage
		if json.Unmarshal(object["params"], &params) != nil || len(params) == 0 || string(params[len(params)-1]) != "false" || len(params) > cleanParam+1 {
			return
		}
		var after struct{ Params []json.RawMessage }
		if json.Unmarshal(got, &after) != nil || len(after.Params) != len(params) || string(after.Params[len(params)-1]) != "true" {
			t.Fatalf("%q became %q", line, got)
		}
	})
}

func commonPrefix(a, b []byte) []byte {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return a[:n]
}

func commonSuffix(a, b []byte) []byte {
	n := 0
	for n < len(a) && n < len(b) && a[len(a)-1-n] == b[len(b)-1-n] {
		n++
	}
	return a[len(a)-n:]
}

func FuzzWorkerName(f *testing.F) {
	for _, name := range []string{
		"", "alice", "alice.rig1", ".", "..", "a/../b", "../../x", "/", "alice/", "矿工.1", "a\x00b", "\xff.\xfe", "АlісЕ",
		"0x" + strings.Repeat("0", 40), "0x" + strings.Repeat("aB", 20) + ".alice.rig1", "alice_btc|x:y^z-/",
	} {
		f.Add(name, "")
		f.Add(name, "rig1")
		f.Add("alice", name)
	}
	const watchDir = "/stratumSwitcher/btcbcc/"
	f.Fuzz(func(t *testing.T, name, worker string) {
		for _, c := range allChains {
			w := c.parseWorker(name, worker)
			full := w.String()
			if filterWorker(full) != full {
				t.Fatalf("%s: characters in %q", c, full)
			}
			if strings.Contains(w.Account, ".") || w.Miner != "" && w.Miner[0] != '.' {
				t.Fatalf("%s: account %q, miner %q", c, w.Account, w.Miner)
			}
			if len(full) > len(name)+len(worker)+1 {
				t.Fatalf("%s: %q is longer than %q and %q", c, full, name, worker)
			}
			if c == chainBitcoin && w.asSent() != name {
				t.Fatalf("%q is sent as %q", name, w.asSent())
			}
			if w.Sent = ""; c != chainEthereum && c.parseWorker(full, "") != w {
				t.Fatalf("%s: %q read again is %+v", c, full, c.parseWorker(full, ""))
			}
			if got := string(quote(full)); got != `"`+full+`"` {
				t.Fatalf("%s: %q as JSON is %s", c, full, got)
			}
			// What the coin source takes for a sub-account is a node of the
			// directory, and none elsewhere.
			if !coins.ValidSubAccount(w.Account) {
				if w.Account != "" && !strings.Contains(w.Account, "/") && len(w.Account) < 32 {
					t.Fatalf("%s: sub-account %q is refused", c, w.Account)
				}
				continue
			}
			node := watchDir + w.Account
			if path.Clean(node) != node || path.Dir(node)+"/" != watchDir || path.Base(node) != w.Account {
				t.Fatalf("%s: sub-account %q is node %s", c, w.Account, path.Clean(node))
			}
		}
	})
}

// fuzzPool answers the handshake of every link, gives it a job and reads on.
type fuzzPool struct{ *testkit.ScriptedPool }

func (p fuzzPool) serve(chain chainType) {
	for conn := range p.Conns {
		go p.serveLink(chain, conn)
	}
}

func (p fuzzPool) serveLink(chain chainType, conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReaderSize(conn, maxPoolLine)
	for {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return
		}
		m, err := parseRequest(line)
		if err != nil {
			continue // the miner's own, after the handshake
		}
		switch params := m.paramList(); m.Method {
		case "mining.subscribe":
			at := 1
			if chain == chainEthereum {
				at = 2
			}
			text, _ := jsonString(params[at])
			var id uint32
			fmt.Sscanf(text, "%x", &id)
			conn.Write(dialectStratum.appendResult(nil, m.ID, chain.subscribeResult(chain.newSubscription(params[:at]), id)))
		case "mining.authorize", "eth_submitLogin":
			conn.Write(dialectStratum.appendResult(nil, m.ID, []byte("true")))
			conn.Write([]byte(joinLines(textDifficulty, textJob)))
		}
	}
}

// FuzzHandshake sends any bytes in any pieces and ends the stream. The session
// must end too, leave nothing behind, and not have said much.
func FuzzHandshake(f *testing.F) {
	for _, c := range handshakeCases(f) {
		var all []string
		for _, row := range c.rows {
			if row.who == "miner sends" {
				all = append(all, row.line)
			}
		}
		f.Add([]byte(joinLines(all...)), []byte{200, 3, 90}, c.chain == "ethereum")
	}
	f.Add([]byte("{"+strings.Repeat("x", maxMinerLine+10)), []byte{255}, false)
	f.Add([]byte("{\n\n\n\n\n\n\n\n{\n"), []byte{0}, true)
	f.Add([]byte(joinLines(textSubscribe, textAuthorize)+"\x7f\x01\x04\x00"), []byte{0}, false)

	switchers := make(map[bool]*testSwitcher)
	for _, ethereum := range []bool{false, true} {
		chain := chainBitcoin
		if ethereum {
			chain = chainEthereum
		}
		pool := fuzzPool{testkit.StartScriptedPool(f)}
		go pool.serve(chain)
		switchers[ethereum] = startSwitcher(f, newMemoryCoins(map[string]string{"alice": "btc", "bob": "doge"}), nil, func(c *Config) {
			c.ChainType = chain.String()
			c.StratumServerMap = map[string]StratumServerInfo{"btc": {URL: pool.Addr(), UserSuffix: "btc"}}
		})
	}
	f.Fuzz(func(t *testing.T, data, pieces []byte, ethereum bool) {
		if len(data) > 4*maxMinerLine {
			return
		}
		sw := switchers[ethereum]
		conn, err := net.DialTimeout("tcp", sw.addr, testWait)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(testWait))
		go sendPieces(conn.(*net.TCPConn), data, pieces)
		limit := int64(8192 + 16*len(data))
		out, err := io.ReadAll(io.LimitReader(conn, limit))
		switch {
		case int64(len(out)) == limit:
			t.Fatalf("%d bytes of answers to %d: %.200q", len(out), len(data), out)
		case errors.Is(err, os.ErrDeadlineExceeded):
			t.Fatalf("the session does not end; answers %.200q", out)
		}
		for len(out) > 0 {
			line := nextLine(out)
			if line == nil {
				break // cut by a reset
			}
			if !json.Valid(line) {
				t.Fatalf("not JSON: %q", line)
			}
			out = out[len(line):]
		}
		eventually(t, "the session is forgotten", func() bool {
			return sw.sessionCount() == 0 && sw.coins.open("alice") == 0 && sw.coins.open("bob") == 0
		})
	})
}

func sendPieces(conn *net.TCPConn, data, pieces []byte) {
	for i := 0; len(data) > 0; i++ {
		n := len(data)
		if len(pieces) > 0 {
			n = min(n, 1+int(pieces[i%len(pieces)]))
		}
		if _, err := conn.Write(data[:n]); err != nil {
			return
		}
		data = data[n:]
	}
	conn.CloseWrite()
}
