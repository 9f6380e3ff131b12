package main

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// These are rules of the handshake that do not depend on a chain or variant. Those
// that do are in docs/handshakes.md.

// Ids are sent back as they came, whatever they are.
func TestSessionHandshakeIDs(t *testing.T) {
	t.Parallel()
	ids := []struct{ sent, back string }{
		{`1`, `1`}, {`0`, `0`}, {`-7`, `-7`}, {`1.50`, `1.50`}, {`12345678901234567890123`, `12345678901234567890123`},
		{`"abc"`, `"abc"`}, {`""`, `""`}, {`"1"`, `"1"`}, {`"a\"b\\\u00e9é\/"`, `"a\"b\\\u00e9é\/"`}, {`"auth"`, `"auth"`}, {`"subscribe"`, `"subscribe"`},
		{`null`, `null`}, {``, `null`}, {`true`, `true`}, {`false`, `false`},
		{`{"a":[1, 2]}`, `{"a":[1, 2]}`}, {`[1,"x",null]`, `[1,"x",null]`}, {`{}`, `{}`}, {` 5 `, `5`}, {"\t[ ] ", `[ ]`},
	}
	for _, id := range ids {
		for _, f := range feedings {
			t.Run(id.sent+"/"+f.name, func(t *testing.T) {
				sw, pool, _ := startScripted(t, "bitcoin", nil)
				miner := stratumtest.DialRaw(t, sw.addr)
				member := ""
				if id.sent != "" {
					member = `"id":` + id.sent + `,`
				}
				refused := func(code int, text string) string {
					return fmt.Sprintf(`{"id":%s,"result":null,"error":[%d,"%s",1]}`, id.back, code, text)
				}
				steps := []struct{ method, params, want string }{
					{"mining.authorize", `["alice"]`, refused(101, "Need Subscribed")},
					{"mining.configure", `[["x"]]`, `{"id":` + id.back + `,"result":{"x":false},"error":null}`},
					{"mining.configure", `[]`, refused(103, "Too Few Params")},
					{"mining.subscribe", `["cgminer/4.11.1"]`, subscribeAnswer(id.back, "01000080")},
					{"mining.subscribe", `[]`, refused(102, "Duplicate Subscribed")},
					{"mining.extranonce.subscribe", `[]`, `{"id":` + id.back + `,"result":true,"error":null}`},
					{"mining.get_transactions", `[]`, `{"id":` + id.back + `,"result":[],"error":null}`},
					{"mining.hello", `[]`, refused(20, "Unknown method")},
					{"mining.authorize", `[]`, refused(103, "Too Few Params")},
					{"mining.authorize", `[1]`, refused(104, "Worker Name Must be a String")},
					{"mining.authorize", `["."]`, refused(105, "Sub-account Name Cannot be Empty")},
					{"mining.submit", `[]`, refused(24, "Unauthorized worker")},
					{"mining.authorize", `["alice.rig1","x"]`, ""},
				}
				var all, wants []string
				for _, step := range steps {
					line := fmt.Sprintf(`{%s"method":"%s","params":%s}`, member, step.method, step.params)
					if id.back == "null" {
						switch step.method { // without an id, the answers to these are not waited for
						case "mining.extranonce.subscribe", "mining.get_transactions", "mining.hello":
							step.want = ""
						}
					}
					if step.want != "" {
						wants = append(wants, step.want)
					}
					all = append(all, line)
					if !f.pipelined {
						miner.SendLine(line)
						if step.want != "" {
							miner.ExpectLine(step.want)
						}
					}
				}
				if f.pipelined {
					f.send(miner, joinLines(all...))
					expectLines(miner, wants...)
				}
				link := pool.Next()
				expectLines(link, textPoolSubscribe, textPoolAuthorize)
				link.Send(joinLines(textPoolSubscribed, textPoolAuthorized, textDifficulty, textJob))
				expectLines(miner, `{"id":`+id.back+`,"result":true,"error":null}`, textDifficulty, textJob)
				expectNoMore(t, sw, miner, link)
			})
		}
	}
}

// The requests to a pool are one write, and so is what the miner gets when it is
// authorized: the answer, the mask, and the pool's lines.
func TestSessionHandshakeWrites(t *testing.T) {
	sw, pool, _ := startScripted(t, "bitcoin", nil)
	miner := stratumtest.DialRaw(t, sw.addr)
	miner.Send(joinLines(`{"id":1,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"1fffe000"}]}`,
		`{"id":1,"method":"mining.suggest_target","params":["ff"]}`, textSubscribe, textAuthorize))
	expectWrite(t, miner, joinLines(`{"id":1,"result":{"version-rolling":true,"version-rolling.mask":"1fffe000"},"error":null}`,
		`{"id":1,"result":true,"error":null}`, textSubscribed))
	link := pool.Next()
	expectWrite(t, link, joinLines(`{"id":2147400000,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"1fffe000"}]}`,
		withOwnID(textPoolSubscribe, 1), `{"id":2147400002,"method":"mining.suggest_target","params":["ff"]}`, withOwnID(textPoolAuthorize, 3)))

	// The pool sends lines in the worst order. The miner gets none of them yet.
	for _, line := range []string{textDifficulty, textJob, `{"id":2147400000,"result":{"version-rolling":true,"version-rolling.mask":"3fffe000"},"error":null}`, withOwnID(textPoolSubscribed, 1)} {
		link.SendLine(line)
	}
	miner.ExpectNothing(30 * time.Millisecond)
	link.SendLine(withOwnID(textPoolAuthorized, 3))
	expectWrite(t, miner, joinLines(`{"id":2,"result":true,"error":null}`,
		`{"id":null,"method":"mining.set_version_mask","params":["1fffe000"]}`, textDifficulty, textJob))
	link.SendLine(`{"id":null,"method":"mining.set_version_mask","params":["ffff0000"]}`)
	miner.ExpectLine(`{"id":null,"method":"mining.set_version_mask","params":["1fff0000"]}`)
	expectNoMore(t, sw, miner, link)
}

// A miner that did not ask for version rolling gets no mask.
func TestSessionHandshakeMaskUnasked(t *testing.T) {
	sw, pool, _ := startScripted(t, "bitcoin", nil)
	miner := stratumtest.DialRaw(t, sw.addr)
	miner.Send(joinLines(textSubscribe, textAuthorize))
	miner.ExpectLine(textSubscribed)
	link := pool.Next()
	expectLines(link, textPoolSubscribe, textPoolAuthorize)
	mask := `{"id":null,"method":"mining.set_version_mask","params":["1fffe000"]}`
	link.Send(joinLines(mask, textPoolAuthorized, textPoolSubscribed, textJob, mask, textDifficulty))
	expectLines(miner, `{"id":2,"result":true,"error":null}`, textJob, textDifficulty)
	expectNoMore(t, sw, miner, link)
}

// Each pool gets the whole handshake, at a switch and after a loss.
func TestSessionHandshakeAtEachPool(t *testing.T) {
	t.Parallel()
	sw, btc, bcc := startScripted(t, "bitcoin", nil)
	miner := stratumtest.DialRaw(t, sw.addr)
	miner.Send(joinLines(
		`{"id":1,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"1fffe000"}]}`,
		`{"id":1,"method":"mining.suggest_difficulty","params":[512]}`, textSubscribe,
		`{"id":2,"method":"mining.authorize","params":["alice.rig1","pass","d=512"]}`))
	expectLines(miner, `{"id":1,"result":{"version-rolling":true,"version-rolling.mask":"1fffe000"},"error":null}`,
		`{"id":1,"result":true,"error":null}`, textSubscribed)

	auth := `{"id":%d,"method":"mining.authorize","params":["%s","pass","d=512"]}`
	requests := joinLines(`{"id":2147400000,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"1fffe000"}]}`,
		withOwnID(textPoolSubscribe, 1), `{"id":2147400002,"method":"mining.suggest_difficulty","params":[512]}`, fmt.Sprintf(auth, 2147400003, "alice.rig1"))
	configured := `{"id":2147400000,"result":{"version-rolling":true,"version-rolling.mask":"%s"},"error":null}`
	suggested := `{"id":2147400002,"result":true,"error":null}`
	mask := `{"id":null,"method":"mining.set_version_mask","params":["%s"]}`

	link := btc.Next()
	expectWrite(t, link, requests)
	link.Send(joinLines(fmt.Sprintf(configured, "1fffe000"), withOwnID(textPoolSubscribed, 1), suggested, withOwnID(textPoolAuthorized, 3), textDifficulty, textJob))
	expectWrite(t, miner, joinLines(`{"id":2,"result":true,"error":null}`, fmt.Sprintf(mask, "1fffe000"), textDifficulty, textJob))

	// This is a switch to a pool that needs the suffix and allows fewer bits. The
	// first job's clean flag becomes true, and its ID is changed, because the
	// former pool's job has the same.
	job, cleanJob := strings.Replace(textJob, `"j1"`, `"j10"`, 1), strings.Replace(textCleanJob, `"j1"`, `"j10"`, 1)
	sw.coins.set("alice", "bcc")
	next := bcc.Next()
	expectWrite(t, next, requests)
	next.Send(joinLines(withOwnID(textPoolSubscribed, 1), fmt.Sprintf(configured, "00ffe000"), `{"id":2147400003,"result":null,"error":[24,"Unauthorized worker",null]}`))
	next.ExpectLine(fmt.Sprintf(auth, 2147400004, "alice_bcc.rig1"))
	next.Send(joinLines(textDifficulty, withOwnID(textPoolAuthorized, 4), textJob))
	expectWrite(t, miner, joinLines(fmt.Sprintf(mask, "00ffe000"), textDifficulty, cleanJob))
	next.Send(joinLines(suggested, textJob))
	miner.ExpectLine(job)

	// The pool is lost. The mask has not changed, so it is not sent again.
	next.Close()
	again := bcc.Next()
	expectWrite(t, again, requests)
	again.Send(joinLines(withOwnID(textPoolSubscribed, 1), fmt.Sprintf(configured, "00ffe000"), suggested, withOwnID(textPoolAuthorized, 3), textDifficulty, textJob))
	expectWrite(t, miner, joinLines(textDifficulty, cleanJob))
	expectNoMore(t, sw, miner, again)
}

// Requests that come while the pool is being prepared wait for it.
func TestSessionHandshakeEarlyRequests(t *testing.T) {
	sw, pool, _ := startScripted(t, "bitcoin", nil)
	miner := stratumtest.DialRaw(t, sw.addr)
	early := []string{`{"id":3,"method":"mining.submit","params":["alice.rig1","j1","00","00","00"]}`, `{"id":"e","method":"mining.hello","params":[]}`}
	miner.Send(joinLines(textSubscribe, textAuthorize, early[0]))
	miner.ExpectLine(textSubscribed)
	link := pool.Next()
	expectLines(link, textPoolSubscribe, textPoolAuthorize)
	miner.Send(early[1][:10])
	link.Send(joinLines(textPoolSubscribed, textPoolAuthorized, textDifficulty, textJob))
	link.ExpectLine(early[0])
	miner.Send(early[1][10:] + "\n")
	link.ExpectLine(early[1])
	expectLines(miner, `{"id":2,"result":true,"error":null}`, textDifficulty, textJob)
	expectNoMore(t, sw, miner, link)
}

// A pool without work at the moment does not keep the miner waiting.
func TestSessionHandshakeNoJob(t *testing.T) {
	t.Parallel()
	sw, pool, _ := startScripted(t, "bitcoin", nil)
	miner := stratumtest.DialRaw(t, sw.addr)
	miner.Send(joinLines(textSubscribe, textAuthorize))
	miner.ExpectLine(textSubscribed)
	link := pool.Next()
	expectLines(link, textPoolSubscribe, textPoolAuthorize)
	link.Send(joinLines(textPoolSubscribed, textPoolAuthorized))
	miner.ExpectLine(`{"id":2,"result":true,"error":null}`)
	link.SendLine(textJob)
	miner.ExpectLine(textJob)
	expectNoMore(t, sw, miner, link)
}

// A refused miner may try again, even in the same packet. The tries are answered in
// their order.
func TestSessionHandshakeRefusedPipelined(t *testing.T) {
	sw, pool, _ := startScripted(t, "bitcoin", nil)
	miner := stratumtest.DialRaw(t, sw.addr)
	miner.Send(joinLines(textSubscribe, textAuthorize, `{"id":3,"method":"mining.extranonce.subscribe","params":[]}`,
		`{"id":4,"method":"mining.authorize","params":["alice.rig2"]}`))
	miner.ExpectLine(textSubscribed)
	link := pool.Next()
	expectLines(link, textPoolSubscribe, textPoolAuthorize)
	refusal := `{"id":2147400001,"result":null,"error":[24,"no",{"why": "me"}]}`
	link.Send(joinLines(refusal, textPoolSubscribed))
	link.ExpectLine(`{"id":2147400002,"method":"mining.authorize","params":["alice_btc.rig1","x"]}`)
	link.SendLine(withOwnID(refusal, 2))
	expectLines(miner, `{"id":2,"result":null,"error":[24,"no",{"why": "me"}]}`, `{"id":3,"result":true,"error":null}`)
	link = pool.Next()
	expectLines(link, textPoolSubscribe, `{"id":2147400001,"method":"mining.authorize","params":["alice.rig2"]}`)
	link.Send(joinLines(textPoolAuthorized, textPoolSubscribed, textJob))
	expectLines(miner, `{"id":4,"result":true,"error":null}`, textJob)
	if n := sw.coins.open("alice"); n != 1 {
		t.Errorf("the coin source counts %d users of alice, want 1", n)
	}
	expectNoMore(t, sw, miner, link)
}

func TestSessionHandshakeCaseInsensitive(t *testing.T) {
	sw, pool, _ := startScripted(t, "bitcoin", func(c *Config) { c.StratumServerCaseInsensitive = true })
	miner := stratumtest.DialRaw(t, sw.addr)
	miner.Send(joinLines(textSubscribe, `{"id":2,"method":"mining.authorize","params":["ALIce.Rig1","X"]}`))
	miner.ExpectLine(textSubscribed)
	link := pool.Next()
	expectLines(link, textPoolSubscribe, `{"id":2147400001,"method":"mining.authorize","params":["alice.Rig1","X"]}`)
	link.Send(joinLines(textPoolSubscribed, `{"id":2147400001,"result":false,"error":null}`))
	link.ExpectLine(`{"id":2147400002,"method":"mining.authorize","params":["alice_btc.Rig1","X"]}`)
}

// The pool gets the miner's IPv4 address as a number, and 0 for IPv6.
func TestSessionHandshakeAddress(t *testing.T) {
	for _, c := range []struct{ local, listen, number string }{
		{"127.0.0.1", "127.0.0.1:0", "2130706433"},
		{"127.0.0.2", "127.0.0.1:0", "2130706434"},
		{"127.255.255.254", "127.0.0.1:0", "2147483646"},
		{"127.0.0.1", "[::]:0", "2130706433"},
		{"::1", "[::1]:0", "0"},
	} {
		t.Run(c.local+" "+c.listen, func(t *testing.T) {
			if strings.Contains(c.listen, "::") {
				ln, err := net.Listen("tcp", "[::1]:0")
				if err != nil {
					t.Fatalf("IPv6 on loopback is needed: %v", err)
				}
				ln.Close()
			}
			sw, pool, _ := startScripted(t, "bitcoin", func(config *Config) { config.ListenAddr = c.listen })
			_, port, _ := net.SplitHostPort(sw.addr)
			host := "127.0.0.1"
			if c.local == "::1" {
				host = "::1"
			}
			dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(c.local)}, Timeout: testWait}
			conn, err := dialer.Dial("tcp", net.JoinHostPort(host, port))
			if err != nil {
				t.Fatalf("dial from %s: %v", c.local, err)
			}
			miner := stratumtest.NewRaw(t, conn)
			miner.Send(joinLines(textSubscribe, textAuthorize))
			pool.Next().ExpectLine(strings.Replace(textPoolSubscribe, "2130706433", c.number, 1))
		})
	}
}

// Sessions of one server have different extranonces. Those of Ethereum are far
// apart.
func TestSessionHandshakeExtranonces(t *testing.T) {
	for _, c := range []struct {
		chain string
		want  [3]string
	}{
		{"bitcoin", [3]string{"01000080", "01000081", "01000082"}},
		{"decred-normal", [3]string{"000000000000000080000001", "000000000000000081000001", "000000000000000082000001"}},
		{"decred-gominer", [3]string{"80000001", "81000001", "82000001"}},
		{"ethereum", [3]string{"010080", "010181", "010282"}},
	} {
		t.Run(c.chain, func(t *testing.T) {
			sw, _, _ := startScripted(t, strings.ToUpper(c.chain), nil)
			for _, x := range c.want {
				miner := stratumtest.DialRaw(t, sw.addr)
				miner.SendLine(`{"id":1,"method":"mining.subscribe","params":["a/1","EthereumStratum/1.0.0"]}`)
				want := subscribeAnswer("1", x)
				if c.chain == "ethereum" {
					want = fmt.Sprintf(`{"id":1,"result":[["mining.notify","%s","EthereumStratum/1.0.0"],"%s"],"error":null}`, x, x)
				}
				miner.ExpectLine(want)
			}
		})
	}
}

// Without a server ID there are no extranonces, so subscribe and what comes after
// it wait. Requests before it are answered.
func TestSessionHandshakeServerID(t *testing.T) {
	coins := newMemoryCoins(map[string]string{"alice": "btc"})
	coins.server = 0
	for _, chain := range []string{"bitcoin", "ethereum"} {
		t.Run(chain, func(t *testing.T) {
			pool := testkit.StartScriptedPool(t)
			sw := startSwitcher(t, coins, nil, func(c *Config) {
				c.ChainType = chain
				c.StratumServerMap = map[string]StratumServerInfo{"btc": {URL: pool.Addr(), UserSuffix: "btc"}}
			})
			miner := stratumtest.DialRaw(t, sw.addr)
			subscribe, answer, poolLine := textSubscribe, subscribeAnswer("1", "ab000080"), strings.Replace(textPoolSubscribe, "01000080", "ab000080", 1)
			errors := []string{`{"id":7,"result":null,"error":[101,"Need Subscribed",0]}`, `{"id":9,"result":null,"error":[102,"Duplicate Subscribed",171]}`}
			if chain == "ethereum" {
				answer = `{"id":1,"result":true,"error":null}`
				poolLine = `{"id":2147400000,"method":"mining.subscribe","params":["cgminer/4.11.1","Stratum","ab0080",2130706433]}`
			}
			miner.Send(joinLines(`{"id":7,"method":"mining.authorize","params":["alice"]}`, subscribe,
				`{"id":9,"method":"mining.subscribe","params":[]}`, textAuthorize))
			miner.ExpectLine(errors[0])
			miner.ExpectNothing(20 * time.Millisecond)
			sw.ServerIDClaimed(171)
			expectLines(miner, answer, errors[1])
			pool.Next().ExpectLine(poolLine)
		})
	}
}

// A login of ETHProxy also waits for the server ID.
func TestSessionHandshakeServerIDETHProxy(t *testing.T) {
	coins := newMemoryCoins(map[string]string{"alice": "btc"})
	coins.server = 0
	pool := testkit.StartScriptedPool(t)
	sw := startSwitcher(t, coins, nil, func(c *Config) {
		c.ChainType = "ethereum"
		c.StratumServerMap = map[string]StratumServerInfo{"btc": {URL: pool.Addr(), UserSuffix: "btc"}}
	})
	miner := stratumtest.DialRaw(t, sw.addr)
	miner.SendLine(`{"id":1,"method":"eth_submitLogin","params":["alice"]}`)
	miner.ExpectNothing(20 * time.Millisecond)
	sw.ServerIDClaimed(2)
	expectLines(pool.Next(), `{"id":2147400000,"method":"mining.subscribe","params":["ETHProxy","ETHProxy/1.0.0","020080",2130706433]}`,
		`{"id":2147400001,"method":"eth_submitLogin","params":["alice"]}`)
}

// A line may have stratum.MaxMinerLine bytes and no more, whether or not its end
// has come.
func TestSessionHandshakeLineLimit(t *testing.T) {
	padded := func(n int) string {
		line := `{"id":1,"method":"mining.get_transactions","params":[""]}`
		return strings.Replace(line, `""`, `"`+strings.Repeat("x", n-len(line)-1)+`"`, 1) + "\n"
	}
	sw, _, _ := startScripted(t, "bitcoin", nil)
	miner := stratumtest.DialRaw(t, sw.addr)
	miner.Send(padded(stratum.MaxMinerLine) + padded(100))
	expectLines(miner, `{"id":1,"result":[],"error":null}`, `{"id":1,"result":[],"error":null}`)
	miner.Send(padded(stratum.MaxMinerLine + 1))
	miner.ExpectClosed()

	miner = stratumtest.DialRaw(t, sw.addr)
	miner.Send("{" + strings.Repeat("[", stratum.MaxMinerLine))
	miner.ExpectClosed()
	eventually(t, "sessions end", func() bool { return sw.sessionCount() == 0 })
}

// Only the last suggestion of each kind counts. One that is not a list, or too
// long, is not stored.
func TestSessionHandshakeSuggestions(t *testing.T) {
	sw, pool, _ := startScripted(t, "bitcoin", nil)
	miner := stratumtest.DialRaw(t, sw.addr)
	miner.Send(joinLines(textSubscribe,
		`{"id":3,"method":"mining.suggest_difficulty","params":[1,2]}`,
		`{"id":4,"method":"mining.suggest_target","params":["`+strings.Repeat("f", 300)+`"]}`,
		`{"id":5,"method":"mining.suggest_target"}`,
		`{"id":6,"method":"mining.suggest_difficulty","params":{"a":1}}`,
		textAuthorize))
	miner.ExpectLine(textSubscribed)
	for id := 3; id <= 6; id++ {
		miner.ExpectLine(fmt.Sprintf(`{"id":%d,"result":true,"error":null}`, id))
	}
	expectLines(pool.Next(), textPoolSubscribe, `{"id":2147400001,"method":"mining.suggest_difficulty","params":[1,2]}`, withOwnID(textPoolAuthorize, 2))
}

// A sub-account's name goes to the coin source as one name, whatever it contains.
func TestSessionHandshakeHostileNames(t *testing.T) {
	for _, c := range []struct{ sent, account string }{
		{`alice/../bob.x`, "alice/"}, // the sub-account's name ends at the first dot
		{`/etc/passwd`, "/etc/passwd"},
		{`../../zookeeper/config`, ""},
		{`alice\u0000bob`, "alicebob"},
		{`alice\nbob.x`, "alicebob"},
		{`//.x`, "//"},
	} {
		t.Run(c.sent, func(t *testing.T) {
			sw, _, _ := startScripted(t, "bitcoin", nil)
			sw.coins.mu.Lock()
			sw.coins.hold = true
			sw.coins.mu.Unlock()
			miner := stratumtest.DialRaw(t, sw.addr)
			miner.Send(joinLines(textSubscribe, `{"id":2,"method":"mining.authorize","params":["`+c.sent+`"]}`))
			miner.ExpectLine(textSubscribed)
			if c.account == "" {
				miner.ExpectLine(`{"id":2,"result":null,"error":[105,"Sub-account Name Cannot be Empty",1]}`)
				return
			}
			eventually(t, "the coin source is asked", func() bool {
				sw.coins.mu.Lock()
				defer sw.coins.mu.Unlock()
				return len(sw.coins.held) == 1
			})
			if got := sw.coins.held[0].Account; got != c.account {
				t.Errorf("the coin source was asked for %q, want %q", got, c.account)
			}
			sw.coins.letGo()
			miner.ExpectLine(`{"id":2,"result":null,"error":[201,"Invalid Sub-account Name",1]}`)
			miner.ExpectClosed()
		})
	}
}

// Equal ids do not mix up the pool's answers to the switcher and to the miner.
func TestSessionHandshakeIDOfOurs(t *testing.T) {
	sw, pool, _ := startScripted(t, "bitcoin", nil)
	miner := stratumtest.DialRaw(t, sw.addr)
	miner.Send(joinLines(`{"id":0,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"e000"}]}`,
		textSubscribe, `{"id":3,"method":"mining.suggest_difficulty","params":[1]}`, textAuthorize))
	expectLines(miner, `{"id":0,"result":{"version-rolling":true,"version-rolling.mask":"0000e000"},"error":null}`,
		textSubscribed, `{"id":3,"result":true,"error":null}`)
	link := pool.Next()
	expectLines(link, `{"id":2147400000,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"0000e000"}]}`,
		withOwnID(textPoolSubscribe, 1), `{"id":2147400002,"method":"mining.suggest_difficulty","params":[1]}`, withOwnID(textPoolAuthorize, 3))
	link.Send(joinLines(`{"id":2147400000,"result":{"version-rolling":false},"error":null}`, withOwnID(textPoolSubscribed, 1),
		`{"id":2147400002,"result":true,"error":null}`, withOwnID(textPoolAuthorized, 3), textJob))
	expectLines(miner, `{"id":2,"result":true,"error":null}`, `{"id":null,"method":"mining.set_version_mask","params":["00000000"]}`, textJob)
	for _, id := range []string{"2147400000", "2147400001", "2147400002", "2147400003"} {
		line := `{"id":` + id + `,"method":"mining.submit","params":["alice.rig1","j1","00","00","00"]}`
		answer := `{"id":` + id + `,"result":true,"error":null}`
		miner.SendLine(line)
		link.ExpectLine(line)
		link.SendLine(answer)
		miner.ExpectLine(answer)
	}
	expectNoMore(t, sw, miner, link)
}
