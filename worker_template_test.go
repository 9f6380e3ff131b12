package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

func TestCheckWorkerTemplate(t *testing.T) {
	for template, want := range map[string]string{
		"":                             "",
		"wallet":                       "",
		"{account}.{miner}":            "",
		"{suffix}{suffix}_{account}é\"": "",
		"{account":                     "braces do not match",
		"account}":                     "braces do not match",
		"{account}}":                   "braces do not match",
		"a{":                           "braces do not match",
		"}{account}{":                  "braces do not match",
		"{}":                           "{} is unknown",
		"{Account}":                    "{Account} is unknown",
		"{{account}}":                  "{{account} is unknown",
		"{account }":                   "{account } is unknown",
		"{account}\n":                  "control character",
		"\x7f":                         "control character",
	} {
		got := ""
		if err := checkWorkerTemplate(template); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: %q, want %q", template, got, want)
		}
	}
}

func TestWorkerFor(t *testing.T) {
	name := workerName{Account: "alice", Miner: ".rig.1"}
	for _, c := range []struct {
		pool     pool
		suffixed bool
		name     workerName
		want     string
	}{
		{pool{suffix: "btc"}, false, name, "alice.rig.1"},
		{pool{suffix: "btc"}, true, name, "alice_btc.rig.1"},
		{pool{suffix: "btc", worker: "{account}_{suffix}.{miner}"}, false, name, "alice_btc.rig.1"},
		{pool{worker: "wallet"}, false, name, "wallet"},
		{pool{worker: "bc1q.{miner}"}, false, workerName{Account: "alice"}, "bc1q."},
		{pool{worker: "{miner}{account}", suffix: "{account}"}, false, workerName{"{miner}", "."}, "{miner}"},
		{pool{worker: "{suffix}", suffix: "{account}"}, false, name, "{account}"},
	} {
		if got := c.pool.workerFor(c.name, c.suffixed); got != c.want {
			t.Errorf("%q for %+v: %q, want %q", c.pool.worker, c.name, got, c.want)
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
		// What is in the parts stays as it is.
		p := pool{worker: template, suffix: suffix}
		got := p.workerFor(workerName{account, "." + miner}, false)
		if template == "" {
			if got != account+"."+miner {
				t.Fatalf("%q", got)
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
		if name := plain.workerFor(workerName{"a", ".m"}, false); strings.ContainsAny(name, "{}\n") {
			t.Fatalf("template %q gave %q", template, name)
		}
		if text, ok := jsonString(quote(got)); !ok || text != strings.ToValidUTF8(got, "\ufffd") && strings.ToValidUTF8(got, "") == got {
			t.Fatalf("%q is quoted as %s", got, quote(got))
		}
	})
}

// Shares carry the name that was authorized, however the miner writes its own,
// and whoever of several workers they are of.
func TestSessionWorkersRenamed(t *testing.T) {
	for name, c := range map[string]struct {
		template string
		refuse   string            // what authorized names must not begin with
		session  bool              // the pool takes the session's extranonce
		names    map[string]string // at the pool, by the miner's
	}{
		"as it is":         {names: map[string]string{"alice.one": "alice.one", "alice.two": "alice.two", "alice": "alice"}},
		"filtered":         {names: map[string]string{"alice.the one": "alice.theone", "al ice.tw\u00f6": "alice.tw", `alice."x\`: "alice.x"}},
		"suffix":           {refuse: "alice.", names: map[string]string{"alice.one": "alice_own.one", "alice.two": "alice_own.two"}},
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
			if c.refuse != "" {
				opts.AcceptWorker = func(name string) bool { return !strings.HasPrefix(name, c.refuse) }
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
			r := stratumtest.DialRaw(t, sw.addr)
			r.SendLine(rawSubscribe)
			r.Line(stratumtest.Patience)
			workers := slices.Sorted(maps.Keys(c.names))
			for i, worker := range workers {
				r.SendLine(fmt.Sprintf(`{"id":%d,"method":"mining.authorize","params":[%s,"x"]}`, i, quote(worker)))
				until(t, r, goodAnswer(fmt.Sprint(i)))
			}
			count := map[bool]string{false: "0a0b0%x", true: "0%x"}[c.session]
			round := func(pool *stratumtest.Pool, names func(string) string) {
				t.Helper()
				before := pool.Workers()
				want := make(map[string]uint64)
				for id := range 9 {
					worker := workers[id*id%len(workers)]
					want[names(worker)]++
					r.SendLine(fmt.Sprintf(`{"id":%d,"method":"mining.submit","params":[%s,"%s-1",%q,"%x","%08x"]}`, id, quote(worker), pool.Name(),
						fmt.Sprintf(count, id), pool.JobTime(), id))
					until(t, r, goodAnswer(fmt.Sprint(id)))
				}
				for worker, shares := range want {
					if got := pool.Workers()[worker] - before[worker]; got != shares {
						t.Errorf("%s: %d shares of %q, want %d: %v", pool.Name(), got, worker, shares, pool.Rejects())
					}
				}
			}
			_ = round
		})
	}
}
