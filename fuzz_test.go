package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/coins"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// fuzzLines are lines to begin with: all of the transcripts, and some malicious
// ones.
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

// checkAnswer wants JSON on one line.
func checkAnswer(t *testing.T, b []byte) {
	t.Helper()
	if !json.Valid(b) || bytes.IndexByte(b, '\n') != len(b)-1 {
		t.Fatalf("%q is not one line of JSON", b)
	}
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
			w := c.ParseWorker(name, worker)
			full := w.String()
			if stratum.FilterWorker(full) != full {
				t.Fatalf("%s: %q has characters that are not allowed", c, full)
			}
			if strings.Contains(w.Account, ".") || w.Miner != "" && w.Miner[0] != '.' {
				t.Fatalf("%s: impossible account %q or miner %q", c, w.Account, w.Miner)
			}
			if len(full) > len(name)+len(worker)+1 {
				t.Fatalf("%s: %q is longer than %q and %q", c, full, name, worker)
			}
			if c == stratum.Bitcoin && w.AsSent() != name {
				t.Fatalf("%q is sent as %q", name, w.AsSent())
			}
			if w.Sent = ""; c != stratum.Ethereum && c.ParseWorker(full, "") != w {
				t.Fatalf("%s: %q is read again as %+v", c, full, c.ParseWorker(full, ""))
			}
			if got := string(stratum.Quote(full)); got != `"`+full+`"` {
				t.Fatalf("%s: %q is written in JSON as %s", c, full, got)
			}
			// What the coin source accepts as a sub-account is a node of the
			// directory, and not of another one.
			if !coins.ValidSubAccount(w.Account) {
				if w.Account != "" && !strings.Contains(w.Account, "/") && len(w.Account) < 32 {
					t.Fatalf("%s: sub-account %q is refused", c, w.Account)
				}
				continue
			}
			node := watchDir + w.Account
			if path.Clean(node) != node || path.Dir(node)+"/" != watchDir || path.Base(node) != w.Account {
				t.Fatalf("%s: sub-account %q leads to node %s in another directory", c, w.Account, path.Clean(node))
			}
		}
	})
}

// fuzzPool answers the handshake of every link, gives it a job and continues to
// read.
type fuzzPool struct{ *testkit.ScriptedPool }

func (p fuzzPool) serve(chain stratum.Chain) {
	for conn := range p.Conns {
		go p.serveLink(chain, conn)
	}
}

func (p fuzzPool) serveLink(chain stratum.Chain, conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReaderSize(conn, stratum.MaxPoolLine)
	for {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return
		}
		m, err := stratum.ParseRequest(line)
		if err != nil {
			continue // the miner's own request, after the handshake
		}
		switch params := m.ParamList(); m.Method {
		case "mining.subscribe":
			at := 1
			if chain == stratum.Ethereum {
				at = 2
			}
			text, _ := stratum.JsonString(params[at])
			var id uint32
			fmt.Sscanf(text, "%x", &id)
			conn.Write(stratum.DialectStratum.AppendResult(nil, m.ID, chain.SubscribeResult(chain.NewSubscription(params[:at]), id)))
		case "mining.authorize", "eth_submitLogin":
			conn.Write(stratum.DialectStratum.AppendResult(nil, m.ID, []byte("true")))
			conn.Write([]byte(joinLines(textDifficulty, textJob)))
		}
	}
}

// FuzzHandshake sends any bytes in any pieces and ends the stream. The session must
// end too, leave nothing behind, and not have answered much.
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
	f.Add([]byte("{"+strings.Repeat("x", stratum.MaxMinerLine+10)), []byte{255}, false)
	f.Add([]byte("{\n\n\n\n\n\n\n\n{\n"), []byte{0}, true)
	f.Add([]byte(joinLines(textSubscribe, textAuthorize)+"\x7f\x01\x04\x00"), []byte{0}, false)

	switchers := make(map[bool]*testSwitcher)
	for _, ethereum := range []bool{false, true} {
		chain := stratum.Bitcoin
		if ethereum {
			chain = stratum.Ethereum
		}
		pool := fuzzPool{testkit.StartScriptedPool(f)}
		go pool.serve(chain)
		switchers[ethereum] = startSwitcher(f, newMemoryCoins(map[string]string{"alice": "btc", "bob": "doge"}), nil, func(c *Config) {
			c.ChainType = chain.String()
			c.StratumServerMap = map[string]StratumServerInfo{"btc": {URL: pool.Addr(), UserSuffix: "btc"}}
		})
	}
	f.Fuzz(func(t *testing.T, data, pieces []byte, ethereum bool) {
		if len(data) > 4*stratum.MaxMinerLine {
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
			t.Fatalf("the session does not end; it answered %.200q", out)
		}
		for len(out) > 0 {
			line := stratum.NextLine(out)
			if line == nil {
				break // a reset has cut it off
			}
			if !json.Valid(line) {
				t.Fatalf("%q is not JSON", line)
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

var allChains = []stratum.Chain{stratum.Bitcoin, stratum.DecredNormal, stratum.DecredGominer, stratum.Ethereum}
