package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// These are fuzz targets for what pools send; fuzz_test.go has those for miners.

// FuzzPoolLine covers what is read from single lines of a pool.
func FuzzPoolLine(f *testing.F) {
	for _, line := range append(fuzzLines(f), strings.TrimSpace(subscribed), strings.TrimSpace(ownAnswer), jobLine("j\\u0041", false),
		`{"id":null,"method":"mining.set_extranonce","params":["aabb",4]}`, `{"id":2147400000,"result":{"version-rolling":true,"version-rolling.mask":"1fffe000"}}`,
		`{"id":2147400001,"result":null,"error":[24,"x",null]}`, `{"id":2147400001,"error":{"code":24,"message":"x"}}`, `{"id":2147400001,"error":"\u009b2J"}`, `{"id":{"id":1},"result":["0xab"]}`) {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		if id := stratum.LineID(line); !bytes.Contains(line, id) && !json.Valid(id) {
			t.Fatalf("id %q is not in the line", id)
		}
		jobs := make(stratum.JobSet)
		jobs.Add(line)
		for id := range jobs {
			if len(id) > stratum.MaxJobID+len("sha512:") { // long IDs are remembered by a hash
				t.Fatalf("a job ID of %d bytes is stored", len(id))
			}
		}
		for _, text := range [][]byte{stratum.Clip(line), stratum.Clip(stratum.AnswerJobID(line))} {
			if len(text) > 4*130 || bytes.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) }) {
				t.Fatalf("unsafe text for messages: %q", text)
			}
		}
		if given, err := extranonceOf(line); err == nil && (len(given.Extranonce1) > 64 || given.Size < 0 || given.Size > 32) {
			t.Fatalf("impossible extranonce %+v", given)
		}
		r, err := stratum.ParseResponse(line)
		if err != nil {
			return
		}
		if given, err := stratum.ParseGiven(r.Result); err == nil {
			if len(given.Extranonce1) > 64 || given.Size < 0 || given.Size > 32 {
				t.Fatalf("impossible extranonce %+v", given)
			}
			checkAnswer(t, stratum.AppendSetExtranonce(nil, *given))
		}
		new(poolLink).configured(r)
		if !stratum.IsNull(r.Error) {
			checkAnswer(t, stratum.DialectRPC2.AppendForwarded(nil, nil, r))
			_ = (&refusedError{r}).Error()
		}
	})
}

// FuzzPoolHandshake lets a pool send any bytes in any pieces, before or after its
// link is ready, and end the stream. The miner's session may lose the link but not
// more, and must leave nothing behind.
func FuzzPoolHandshake(f *testing.F) {
	good := ownAnswer + `{"id":2147400001,"result":true,"error":null}` + "\n" + difficultyLine + "\n" + jobLine("1", false) + "\n"
	for _, seed := range []string{"", good, strings.ReplaceAll(good, "true", "false"), `{"id":2147400001,"result":true}` + "\n" + ownAnswer,
		`{"id":null,"method":"mining.set_extranonce","params":["aabb",8]}` + "\n", `{"id":null,"method":"mining.set_version_mask","params":["00ffe000"]}` + "\n",
		`{"id":null,"method":"client.reconnect","params":[]}` + "\n", `{"id":1,"result":true,"error":null}` + "\n", "{\n", "\x7f\x10\x06\x00"} {
		f.Add([]byte(seed), []byte{200, 3, 90}, false)
		f.Add([]byte(seed), []byte{0}, true)
	}
	pool := testkit.StartScriptedPool(f)
	sw := startSwitcher(f, newMemoryCoins(map[string]string{"alice": "btc"}), nil, func(c *Config) {
		c.StratumServerMap = map[string]StratumServerInfo{"btc": {URL: pool.Addr(), ExtraNonce: extranonceOfPool}}
	})
	f.Fuzz(func(t *testing.T, data, pieces []byte, ready bool) {
		if len(data) > 4*stratum.MaxMinerLine {
			return
		}
		sw.health.forgetAll()
		miner, err := net.DialTimeout("tcp", sw.addr, testWait)
		if err != nil {
			t.Fatal(err)
		}
		defer miner.Close()
		miner.SetDeadline(time.Now().Add(testWait))
		go io.Copy(io.Discard, miner)
		io.WriteString(miner, `{"id":0,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"ffffffff"}]}`+"\n"+rawSubscribe+"\n"+rawAuthorize+"\n")
		var link net.Conn
		select {
		case link = <-pool.Conns:
		case <-time.After(testWait):
			t.Fatal("the pool was not dialled")
		}
		link.SetDeadline(time.Now().Add(testWait))
		if ready {
			io.WriteString(link, good)
		}
		go sendPieces(link.(*net.TCPConn), data, pieces)
		if _, err := io.Copy(io.Discard, link); testkit.IsTimeout(err) {
			t.Fatal("the link was not given up")
		}
		link.Close()
		miner.Close()
		eventually(t, "the session is forgotten", func() bool {
			select {
			case again := <-pool.Conns: // a next try
				again.Close()
			default:
			}
			return sw.sessionCount() == 0 && sw.coins.open("alice") == 0
		})
	})
}
