package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

func TestCheckWorkerTemplate(t *testing.T) {
	for template, want := range map[string]string{
		"":                              "",
		"wallet":                        "",
		"{account}.{miner}":             "",
		"{suffix}{suffix}_{account}é\"": "",
		"{account":                      "braces do not match",
		"account}":                      "braces do not match",
		"{account}}":                    "braces do not match",
		"a{":                            "braces do not match",
		"}{account}{":                   "braces do not match",
		"{}":                            "{} is unknown",
		"{Account}":                     "{Account} is unknown",
		"{{account}}":                   "{{account} is unknown",
		"{account }":                    "{account } is unknown",
		"{account}\n":                   "control character",
		"\x7f":                          "control character",
	} {
		got := ""
		if err := checkWorkerTemplate(template); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", template, got, want)
		}
	}
}

func TestWorkerFor(t *testing.T) {
	name := stratum.WorkerName{Account: "alice", Miner: ".rig.1"}
	for _, c := range []struct {
		pool     *pool
		suffixed bool
		name     stratum.WorkerName
		want     string
	}{
		{&pool{suffix: "btc"}, false, name, "alice.rig.1"},
		{&pool{suffix: "btc"}, true, name, "alice_btc.rig.1"},
		{&pool{suffix: "btc", worker: "{account}_{suffix}.{miner}"}, false, name, "alice_btc.rig.1"},
		{&pool{worker: "wallet"}, false, name, "wallet"},
		{&pool{worker: "bc1q.{miner}"}, false, stratum.WorkerName{Account: "alice"}, "bc1q."},
		{&pool{worker: "{miner}{account}", suffix: "{account}"}, false, stratum.WorkerName{Account: "{miner}", Miner: "."}, "{miner}"},
		{&pool{worker: "{suffix}", suffix: "{account}"}, false, name, "{account}"},
	} {
		if got := c.pool.workerFor(c.name, c.suffixed); got != c.want {
			t.Errorf("%q for %+v: got %q, want %q", c.pool.worker, c.name, got, c.want)
		}
	}
}

func FuzzWorkerTemplate(f *testing.F) {
	for _, template := range []string{"", "{account}.{miner}", "{suffix}", "{{account}}", "}{", "{a", "w\x00", "é{miner}\"\\", "{account}{account}"} {
		f.Add(template, "alice", "rig.1", "btc")
	}
	f.Fuzz(func(t *testing.T, template, account, miner, suffix string) {
		if checkWorkerTemplate(template) != nil {
			return
		}
		// What is in the parts is not changed.
		p := pool{worker: template, suffix: suffix}
		got := p.workerFor(stratum.WorkerName{Account: account, Miner: "." + miner}, false)
		if template == "" {
			if got != account+"."+miner {
				t.Fatalf("got %q", got)
			}
			return
		}
		want := ""
		for rest := template; rest != ""; {
			text, after, found := strings.Cut(rest, "{")
			want, rest = want+text, after
			if found {
				part, after, _ := strings.Cut(after, "}")
				want, rest = want+map[string]string{"account": account, "miner": miner, "suffix": suffix}[part], after
			}
		}
		if got != want {
			t.Fatalf("template %q gave %q, want %q", template, got, want)
		}
		plain := pool{worker: template, suffix: "s"}
		if name := plain.workerFor(stratum.WorkerName{Account: "a", Miner: ".m"}, false); strings.ContainsAny(name, "{}\n") {
			t.Fatalf("template %q gave %q", template, name)
		}
		if text, ok := stratum.JsonString(stratum.Quote(got)); !ok || text != strings.ToValidUTF8(got, "\ufffd") && strings.ToValidUTF8(got, "") == got {
			t.Fatalf("%q is quoted as %s", got, stratum.Quote(got))
		}
	})
}

// Shares carry the name that was authorized, however the miner writes its own name,
// and whichever of several workers they belong to.
func TestSessionWorkersRenamed(t *testing.T) {
	for name, c := range map[string]struct {
		template string
		session  bool              // the pool takes the session's extranonce
		names    map[string]string // names at the pool, by the miner's names
	}{
		"as it is":         {names: map[string]string{"alice.one": "alice.one", "alice.two": "alice.two", "alice": "alice"}},
		"as it is written": {names: map[string]string{"alice.the one": "alice.the one", "al ice.tw\u00f6": "al ice.tw\u00f6", `alice."x\`: `alice."x\`, "alice.r+4096": "alice.r+4096", "alice.<a&b>": "alice.<a&b>"}},
		"and in templates": {template: "{account}/{miner}", names: map[string]string{"alice.r~t": "alice/r~t", "alice+.r,d=5": "alice+/r,d=5"}},
		"template":         {template: "bc1{account}+{miner}@{suffix}", names: map[string]string{"alice.one": "bc1alice+one@own", "alice.t.w": "bc1alice+t.w@own", "alice": "bc1alice+@own"}},
		"quotes":           {template: `"{miner}\` + "é", names: map[string]string{"alice.one": `"one\é`, "alice.two": `"two\é`}},
		"one for all":      {template: "wallet", names: map[string]string{"alice.one": "wallet", "alice.two": "wallet"}},
		"at session pools": {template: "{miner}.{account}", session: true, names: map[string]string{"alice.one": "one.alice", "alice.two": "two.alice"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts := stratumtest.PoolOptions{Name: "own", SkipWork: true, Own: &stratumtest.OwnExtranonce{Len: 4, Size: 4}}
			if c.session {
				opts.Own = nil
			}
			own := startPool(t, opts)
			other := startPool(t, stratumtest.PoolOptions{Name: "other", SkipWork: true, Own: &stratumtest.OwnExtranonce{Len: 2, Size: 5}})
			coins := newMemoryCoins(map[string]string{"alice": "own"})
			sw := startSwitcher(t, coins, []*stratumtest.Pool{own, other}, func(config *Config) {
				if !c.session {
					withKinds(own)(config)
				}
				withKinds(other)(config)
				server := config.StratumServerMap["own"]
				server.Worker = c.template
				config.StratumServerMap["own"] = server
				if c.session {
					config.ExtraNonce2Size = 1
				}
			})
			workers := slices.Sorted(maps.Keys(c.names))
			m := startMiner(t, stratumtest.MinerOptions{Addr: sw.addr, Worker: workers[0], Manual: true, CheatHash: true})
			waitPool(t, m, "own")
			for i, worker := range workers[1:] {
				if err := m.Send(fmt.Sprintf(`{"id":"w","method":"mining.authorize","params":[%s,"x"]}`+"\n", stratum.Quote(worker))); err != nil {
					t.Fatal(err)
				}
				err := m.WaitFor(waitContext(t), func(st stratumtest.MinerStats) bool { return st.Unknown == uint64(i+1) })
				if err != nil {
					t.Fatal(err)
				}
			}
			round := func(pool *stratumtest.Pool, names map[string]string) {
				t.Helper()
				waitPool(t, m, pool.Name())
				before, want := pool.Workers(), make(map[string]uint64)
				for i := range 9 {
					worker := workers[i*i%len(workers)]
					want[names[worker]]++
					if code, err := m.Submit(waitContext(t), func(s *stratumtest.Share) { s.Worker = worker }); code != 0 || err != nil {
						t.Errorf("%s: a share of %q got code %d, %v; the last rejection: %s", pool.Name(), worker, code, err, m.Stats().LastReject)
					}
				}
				for worker, shares := range want {
					if got := pool.Workers()[worker] - before[worker]; got != shares {
						t.Errorf("%s: got %d shares of %q, want %d", pool.Name(), got, worker, shares)
					}
				}
			}
			plain := make(map[string]string)
			for _, worker := range workers {
				plain[worker] = worker
			}
			round(own, c.names)
			coins.set("alice", "other")
			round(other, plain)
			coins.set("alice", "own")
			round(own, c.names)
			checkPool(t, own)
			checkPool(t, other)
			if st := m.Stats(); st.Disconnected || len(st.Violations) > 0 || sw.notUnderstood.Load() > 0 {
				t.Errorf("unexpected statistics of the miner: %+v", st)
			}
		})
	}
}

// A pool that picks its own extranonce gets the name as the miner wrote it. No
// other name is tried, and one that cannot be written in JSON is not sent.
func TestSessionWorkerAtPickingPool(t *testing.T) {
	own := startPool(t, stratumtest.PoolOptions{
		Name: "own", Own: &stratumtest.OwnExtranonce{Len: 4, Size: 4},
		AcceptWorker: func(name string) bool { return !strings.HasPrefix(name, "alice.") },
	})
	sw := startSwitcher(t, newMemoryCoins(map[string]string{"alice": "own"}), []*stratumtest.Pool{own}, withKinds(own))
	r := dialSubscribed(t, sw.addr)
	r.SendLine(rawAuthorize)
	if line := r.Line(stratumtest.Patience); !strings.HasPrefix(line, `{"id":2,"result":false,`) && !strings.Contains(line, `"error":[24,`) {
		t.Errorf("a refused worker was answered %s", line)
	}
	if n := own.Stats().ConnectionsTotal; n != 1 {
		t.Errorf("there were %d connections", n)
	}
	if names := own.RefusedNames(); len(names) != 1 {
		t.Errorf("the names %q were tried", names)
	}
	for _, name := range []string{"\xff", `\ud800`, "\ufffd", `a\u0000b`} {
		r := dialSubscribed(t, sw.addr)
		r.SendLine(`{"id":2,"method":"mining.authorize","params":["alice.` + name + `","x"]}`)
		r.ExpectLine(`{"id":2,"result":null,"error":[105,"Sub-account Name Cannot be Empty",1]}`)
		r.ExpectClosed()
	}
	if n := own.Stats().ConnectionsTotal; n != 1 {
		t.Errorf("there were %d connections, want none for names that cannot be sent", n)
	}
}

// With a template, ETHProxy's shares are passed on unchanged, because they contain
// no name.
func TestSessionTemplateEthereum(t *testing.T) {
	p := testkit.StartScriptedPool(t)
	sw := startSwitcher(t, newMemoryCoins(map[string]string{"alice": "eth"}), nil, func(c *Config) {
		c.ChainType = "ethereum"
		c.StratumServerMap = map[string]StratumServerInfo{"eth": {URL: p.Addr(), UserSuffix: "eth", Worker: "{account}/{miner}", Password: "p"}}
	})
	miner := stratumtest.DialRaw(t, sw.addr)
	miner.SendLine(`{"id":1,"method":"eth_submitLogin","params":["alice","x"],"worker":"rig1"}`)
	link := p.Next()
	link.ExpectMethod("mining.subscribe")
	link.ExpectLine(`{"id":2147400001,"method":"eth_submitLogin","params":["alice/rig1","p"]}`)
	link.Send(`{"id":2147400000,"jsonrpc":"2.0","result":true}` + "\n" + `{"id":2147400001,"jsonrpc":"2.0","result":true}` + "\n" +
		`{"id":0,"jsonrpc":"2.0","result":["0xaa","0xbb","0xcc"]}` + "\n")
	miner.ExpectJSON(`{"id":1,"jsonrpc":"2.0","result":true}`)
	miner.Line(stratumtest.Patience)
	share := `{"id":4,"method":"eth_submitWork","params":["0x01","0xaa","0xdd"],"worker":"rig1"}`
	miner.SendLine(share)
	link.ExpectLine(share)
}

// A template's name that is refused is not tried with a suffix.
func TestSessionTemplateRefused(t *testing.T) {
	pool := startPool(t, stratumtest.PoolOptions{Name: "own", AcceptWorker: func(string) bool { return false }})
	coins := newMemoryCoins(map[string]string{"alice": "own"})
	sw := startSwitcher(t, coins, []*stratumtest.Pool{pool}, func(c *Config) {
		c.StratumServerMap["own"] = StratumServerInfo{URL: pool.Addr(), UserSuffix: "own", Worker: "{account}@{suffix}"}
	})
	m := startMiner(t, stratumtest.MinerOptions{Addr: sw.addr, Worker: "alice.one"})
	err := m.WaitFor(waitContext(t), func(st stratumtest.MinerStats) bool { return st.AuthorizeError != "" })
	if err != nil {
		t.Fatal(err)
	}
	if got := pool.RefusedNames(); !slices.Equal(got, []string{"alice@own"}) {
		t.Errorf("the names %q were tried", got)
	}
}
