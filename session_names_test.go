package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// Shares have the name that the pool has authorized; every other byte stays as the
// miner sent it. If the names are equal, no line is rewritten.
func TestSharesCarryTheAuthorizedName(t *testing.T) {
	const form = `{"id":%d,"method":"mining.submit","params":["%s","%s","00000000","69201234","deadbeef"]}` + "\n"
	for _, c := range []struct {
		name      string
		sent      string // the name that the miner sends
		at        string // a pool that knows names as they are
		atSuffix  string // a pool that knows names with its suffix only
		lowerCase bool
		further   [2]string // another name as the miner sends it, and as the first pool knows it
	}{
		{name: "equal", sent: "alice.rig1", at: "alice.rig1", atSuffix: "alice_two.rig1"},
		{name: "dropped characters", sent: "alice.rig~1", at: "alice.rig1", atSuffix: "alice_two.rig1"},
		{name: "case", sent: "Alice.Rig1", at: "alice.Rig1", atSuffix: "alice_two.Rig1", lowerCase: true},
		{name: "further worker", sent: "alice.rig1", at: "alice.rig1", atSuffix: "alice_two.rig1", further: [2]string{"alice.b~2", "alice.b2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			lines := make(chan string, 10)
			submit := func(k *testkit.ChoosyLink, line string) { lines <- k.Pool.Name + " " + line }
			one := testkit.StartChoosyPool(t, "one", func(p *testkit.ChoosyPool) { p.OnSubmit = submit })
			two := testkit.StartChoosyPool(t, "two", func(p *testkit.ChoosyPool) {
				p.OnSubmit = submit
				p.OnAuthorize = func(k *testkit.ChoosyLink, worker string) testkit.Conduct {
					if !strings.Contains(worker, "_two") {
						return testkit.ConductRefuse
					}
					return testkit.ConductServe
				}
			})
			coins := coinsOf("one", "alice")
			sw := startSwitcher(t, coins, nil, func(config *Config) {
				config.StratumServerCaseInsensitive = c.lowerCase
				config.StratumServerMap = map[string]StratumServerInfo{"one": {URL: one.Addr(), UserSuffix: "one"}, "two": {URL: two.Addr(), UserSuffix: "two"}}
			})
			l := testkit.LogIn(sw.addr, c.sent, "raw/1.0")
			defer l.Close()
			if l.Pool != "one" {
				t.Fatalf("the miner got to pool %q, with answer %q", l.Pool, l.Answer)
			}
			id := 10
			share := func(name, job, pool, want string) {
				t.Helper()
				id++
				fmt.Fprintf(l.Nc, form, id, name, job)
				select {
				case got := <-lines:
					if want := pool + " " + fmt.Sprintf(form, id, want, job); got != want {
						t.Errorf("got %q, want %q", got, want)
					}
				case <-time.After(testWait):
					t.Fatal("the pool got no share")
				}
			}
			rewritten := func() (yes bool) {
				sw.eachSession(func(s *Session) {
					yes = yes || s.link.rules != nil
				})
				return yes
			}
			if differs := c.sent != c.at; rewritten() != differs {
				t.Errorf("lines are rewritten: %t, want the opposite", !differs)
			}
			share(c.sent, "one-0", "one", c.at)
			if c.further[0] != "" {
				fmt.Fprintf(l.Nc, `{"id":5,"method":"mining.authorize","params":["%s","x"]}`+"\n", c.further[0])
				share(c.further[0], "one-0", "one", c.further[1])
				share(c.sent, "one-0", "one", c.at)
			}
			coins.set("alice", "two")
			eventually(t, "at the other pool", func() bool { return sw.sessionsAt()[two.Addr()] == 1 })
			share(c.sent, "two-0", "two", c.atSuffix)
			share(c.sent, "one-0", "one", c.at) // late
			coins.set("alice", "one")
			eventually(t, "back", func() bool { return sw.sessionsAt()[one.Addr()] == 1 })
			share(c.sent, "one-0", "one", c.at)
			share(c.sent, "two-0", "two", c.atSuffix) // late
		})
	}
}

// Ethereum's miners may send the same name and tell themselves apart by the worker
// field. Each is a worker of its own at every pool, and shares have its name.
func TestEthereumWorkersOfOneName(t *testing.T) {
	t.Parallel()
	sc, _ := startScene(t, "ethereum", nil, "eth", "etc")
	authorize := func(name, worker string) string {
		return fmt.Sprintf(`{"id":2,"worker":%s,"method":"mining.authorize","params":["%s","x"]}`, worker, name)
	}
	share := func(name, worker, job string) string {
		return fmt.Sprintf(`{"id":9,"worker":%s,"method":"mining.submit","params":["%s","%s","0x1","0x2","0x3"]}`, worker, name, job)
	}
	serve := func(pool string) (link *stratumtest.Raw) {
		link = sc.Pools[pool].Next()
		link.ExpectMethod("mining.subscribe")
		link.ExpectLine(`{"id":2147400001,"method":"mining.authorize","params":["alice.rig1","x"]}`)
		link.Send(joinLines(goodAnswer("2147400000"), goodAnswer("2147400001"), `{"id":null,"method":"mining.notify","params":["`+pool+`","a","b",true]}`))
		return link
	}
	shares := func(link *stratumtest.Raw) {
		t.Helper()
		for _, c := range []struct{ name, worker, want string }{
			{"alice", `"rig1"`, "alice.rig1"}, {"alice", `"rig2"`, "alice.rig2"}, {"alice", "1", "alice.1"}, {"alice", `"rig3"`, "alice.rig3"},
			{"alice.rig1", "null", "alice.rig1"}, {"alice", "null", "alice.rig1"},
		} {
			sc.Miner.SendLine(share(c.name, c.worker, "eth"))
			link.ExpectLine(share(c.want, c.worker, "eth"))
			link.SendLine(goodAnswer("9"))
			sc.Miner.ExpectLine(goodAnswer("9"))
		}
	}
	sc.Miner.SendLine(`{"id":1,"method":"mining.subscribe","params":["ethminer/0.19.0"]}`)
	sc.Miner.Line(stratumtest.Patience)
	sc.Miner.SendLine(authorize("alice", `"rig1"`))
	eth := serve("eth")
	sc.Miner.ExpectLine(goodAnswer("2"))
	sc.Miner.ExpectMethod("mining.notify")
	for _, worker := range []string{`"rig2"`, `"rig3"`} {
		sc.Miner.SendLine(authorize("alice", worker))
		eth.ExpectLine(fmt.Sprintf(`{"id":2,"method":"mining.authorize","params":["alice.%s","x"]}`, strings.Trim(worker, `"`)))
		eth.SendLine(goodAnswer("2"))
		sc.Miner.ExpectLine(goodAnswer("2"))
	}
	shares(eth)
	sc.sw.coins.set("alice", "etc")
	etc := serve("etc")
	for _, worker := range []string{"rig2", "rig3"} {
		if line := etc.ExpectMethod("mining.authorize"); !strings.Contains(line, `["alice.`+worker+`","x"]`) {
			t.Errorf("the next pool got %s", line)
		}
	}
	sc.Miner.ExpectMethod("mining.notify")
	sc.Miner.SendLine(share("alice", `"rig2"`, "etc"))
	etc.ExpectLine(share("alice.rig2", `"rig2"`, "etc"))
}

// nameNotSendable is the error for a name that cannot be sent as the miner wrote it.
const nameNotSendable = `{"id":%s,"result":null,"error":[105,"Sub-account Name Cannot be Empty",1]}`

// notText has texts with parts of JSON strings that are no text, as a miner writes them, in
// canonical form, and as a part of a name in which only some characters are allowed.
var notText = []struct{ written, canonical, allowed string }{
	{`\ud800`, `\ud800`, ""},
	{`\udc00x`, `\udc00x`, "x"},
	{`\ud83d\ud83d\ude00y`, `\ud83d😀y`, "y"},
	{"\xff", "\xff", ""},
	{"\xed\xa0\x80", "\xed\xa0\x80", ""},
}

// At a pool that needs names as the miner wrote them, a name that cannot be sent so gets
// the same error in an authorization, in that of a further worker, and in a share.
func TestNamesNotSendable(t *testing.T) {
	for _, c := range notText {
		t.Run(c.written, func(t *testing.T) {
			t.Parallel()
			s := startPickingScene(t)
			s.Handshake("aaaaaaaa", 4, nil, []string{sceneJob("a", "01", "02", true)})
			s.Miner.ExpectLine(goodAnswer("2"))
			s.Miner.ExpectMethod("mining.notify")
			s.Miner.SendLine(`{"id":5,"method":"mining.authorize","params":["alice.` + c.written + `","x"]}`)
			s.Miner.ExpectLine(fmt.Sprintf(nameNotSendable, "5"))
			const share = `{"id":%d,"method":"mining.submit","params":["%s","a","%s","00000002","00000003"]}`
			s.Miner.SendLine(fmt.Sprintf(share, 6, "alice."+c.written, "000001"))
			s.Miner.ExpectLine(fmt.Sprintf(nameNotSendable, "6"))
			s.Miner.SendLine(fmt.Sprintf(share, 7, "alice.rig1", "000001"))
			s.Pool.ExpectLine(fmt.Sprintf(share, 7, "alice.rig1", "80000001"))
			if p := s.sw.pools["own"].totals(); p.Submitted != 2 || p.RefusedShares() != 1 {
				t.Errorf("%d shares are submitted and %d refused", p.Submitted, p.RefusedShares())
			}
			first := stratumtest.DialRaw(t, s.sw.addr)
			first.Send(joinLines(rawSubscribe, `{"id":8,"method":"mining.authorize","params":["alice.`+c.written+`","x"]}`))
			first.ExpectLine(`{"id":1,"result":[[["mining.set_difficulty","81"],["mining.notify","81"]],"81",3],"error":null}`)
			first.ExpectLine(fmt.Sprintf(nameNotSendable, "8"))
		})
	}
}

// Pools that take the session's extranonce get names without the characters that are not
// allowed. A worker's shares have its name too. Every other name and all passwords are
// passed on as they were written.
func TestNamesThatAreNoText(t *testing.T) {
	const (
		authorize = `{"id":%d,"method":"mining.authorize","params":["%s","%s"]}`
		share     = `{"id":%d,"method":"mining.submit","params":["%s","btc-1","00","01","02"]}`
	)
	for _, c := range notText {
		t.Run(c.written, func(t *testing.T) {
			t.Parallel()
			sc, btc := startScene(t, "bitcoin", nil, "btc")
			// No worker has this name. Its other escape makes the line odd in any case.
			sc.Miner.SendLine(fmt.Sprintf(share, 5, c.written+`.\u0061`))
			btc.ExpectLine(fmt.Sprintf(share, 5, c.canonical+".a"))
			sc.Miner.SendLine(fmt.Sprintf(authorize, 6, "alice.a"+c.written+"b", c.written+`\u0061`))
			btc.ExpectLine(fmt.Sprintf(authorize, 6, "alice.a"+c.allowed+"b", c.canonical+"a"))
			sc.Miner.SendLine(fmt.Sprintf(share, 7, "alice.a"+c.written+"b"))
			btc.ExpectLine(fmt.Sprintf(share, 7, "alice.a"+c.allowed+"b"))

			first := stratumtest.DialRaw(t, sc.sw.addr)
			first.Send(joinLines(rawSubscribe, fmt.Sprintf(authorize, 8, "alice.c"+c.written, c.written)))
			link := sc.Pools["btc"].Next()
			link.ExpectMethod("mining.subscribe")
			link.ExpectLine(fmt.Sprintf(authorize, stratum.FirstOwnID+1, "alice.c"+c.allowed, c.written))
			link.Send(joinLines(strings.ReplaceAll(textPoolSubscribed, "01000080", "01000081"), textPoolAuthorized, jobLine("btc-1", true)))
			first.Line(stratumtest.Patience) // subscribe's answer
			first.ExpectLine(goodAnswer("8"))
			first.SendLine(fmt.Sprintf(share, 9, "alice.c"+c.written))
			link.ExpectLine(fmt.Sprintf(share, 9, "alice.c"+c.allowed))
		})
	}
}

// A share that names another sub-account reaches the pool with that name: the pool decides
// whether it is authorized. It must not count for the connection's own sub-account.
func TestShareOfAnotherAccount(t *testing.T) {
	t.Parallel()
	s := startPickingScene(t)
	s.Handshake("aaaaaaaa", 4, nil, []string{sceneJob("a", "01", "02", true)})
	s.Miner.ExpectLine(goodAnswer("2"))
	s.Miner.ExpectMethod("mining.notify")
	for _, name := range []string{"alice.one", "bob.one", "rig2", "", "Alice.one", "al~ice.two", "alice.<a&b>"} {
		s.Miner.SendLine(`{"id":9,"method":"mining.submit","params":["` + name + `","a","aabbcc","69201234","deadbeef"]}`)
		s.Pool.ExpectLine(`{"id":9,"method":"mining.submit","params":["` + name + `","a","80aabbcc","69201234","deadbeef"]}`)
		s.Pool.SendLine(goodAnswer("9"))
		s.Miner.ExpectLine(goodAnswer("9"))
	}
}
