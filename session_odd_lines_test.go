package main

import (
	"strings"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// Rules for further workers and for names in shares hold however a line is spelled.
// Each line is refused, or reaches the pool in one plain form.
func TestOddMinerLines(t *testing.T) {
	const (
		otherAccount = `,"result":null,"error":[201,"Invalid Sub-account Name (this connection is for alice)",1]}`
		notRead      = `,"result":null,"error":[20,"Request Not Understood",1]}`
		unknown      = `,"result":null,"error":[20,"Unknown method",1]}`
		batch        = `{"id":null,"result":null,"error":[20,"Batches Are Not Supported",1]}`
		plainShare   = `{"id":9,"method":"mining.submit","params":["farm.x","btc-1","00","5f000000","00000001"]}`
	)
	sc, btc := startScene(t, "bitcoin", func(c *Config) {
		c.StratumServerMap["btc"] = StratumServerInfo{URL: c.StratumServerMap["btc"].URL, UserSuffix: "btc", Worker: "farm.{miner}"}
	}, "btc")
	share := func(head, tail string) string {
		return `{"id":9,` + head + `"params":["thief.x","btc-1","00","5f000000","00000001"]` + tail + `}`
	}
	for _, c := range []struct{ line, pool, miner string }{
		{line: `{"id":1,"\u006dethod":"mining.authorize","params":["bob.x","p"]}`, miner: `{"id":1` + otherAccount},
		{line: `{"id":2,"method":"mining.\u0061uthorize","params":["bob.x","p"]}`, miner: `{"id":2` + otherAccount},
		{line: `{"id":3,"x":{"method":"a"},"method":"mining.authorize","params":["bob.x","p"]}`, miner: `{"id":3` + otherAccount},
		{line: `{"x":[{"method":"a"}],"id":4,"method":"mining.authorize","params":["bob.x","p"]}`, miner: `{"id":4` + otherAccount},
		{line: `{"id":5,"method":"foo","method":"mining.authorize","params":["bob.x","p"]}`, miner: `{"id":5` + otherAccount},
		{line: `{"id":6,"Method":"mining.authorize","Params":["bob.x","p"]}`, miner: `{"id":6` + otherAccount},
		{line: `{"id":7,"method":"mining.authorize","params":["alice.x"],"params":["bob.x","p"]}`, miner: `{"id":7` + otherAccount},
		{line: `{"id":8,"method":"mining.authorize\u0000","params":["bob.x","p"]}`, miner: `{"id":8` + notRead},
		{line: `{"id":8,"method\u0000":"mining.authorize","params":["bob.x","p"]}`, miner: `{"id":8` + notRead},
		{line: `{"id":8,"method":["mining.authorize"],"params":["bob.x","p"]}`, miner: `{"id":8` + notRead},
		{line: `{"id":8,"method":"Mining.Authorize","params":["bob.x","p"]}`, miner: `{"id":8` + unknown},
		{line: `{"id":8,"method":"mining.authorized","params":["bob.x","p"]}`, miner: `{"id":8` + unknown},
		{line: `{"id":8,"method":"mining.submit ","params":["bob.x","p"]}`, miner: `{"id":8` + unknown},
		{line: `[{"id":8,"method":"mining.authorize","params":["bob.x","p"]}]`, miner: batch},
		{line: ` [ ]`, miner: batch},
		{line: `{"id":1,"method":"foo"}{"id":8,"method":"mining.authorize","params":["bob.x","p"]}`},
		{line: "{\"id\":1,\"method\":\"foo\"}\r{\"id\":8,\"method\":\"mining.authorize\",\"params\":[\"bob.x\",\"p\"]}"},
		{line: `{"id":1,/*"method":"foo",*/"method":"mining.authorize","params":["bob.x","p"]}`},
		{line: `{"id":1,"method":"mining.authorize","params":["bob.x","p"],}`},
		{line: `{'id':1,'method':'mining.authorize','params':['bob.x','p']}`},
		{line: `"method"`}, {line: `}{"id":`}, {line: "\x00"}, {line: "\r"}, {line: "{\"method\":\"a\x00\"}"},

		{line: share(`"method":"mining.submit",`, ""), pool: plainShare},
		{line: share(`"\u006dethod":"mining.submit",`, ""), pool: plainShare},
		{line: share(`"method":"mining.submi\u0074",`, ""), pool: plainShare},
		{line: share(`"method":"mining.submit","params":["alice.1","zz"],`, ""), pool: plainShare},
		{line: share(`"method":"mining.submit",`, `,"more":{"params":["y"]}`), pool: strings.TrimSuffix(plainShare, "}") + `,"more":{"params":["y"]}}`},
		{line: share(`"more":{"params":["y"]},"method":"mining.submit",`, ""), pool: strings.TrimSuffix(plainShare, "}") + `,"more":{"params":["y"]}}`},
		{line: "\ufeff" + share(`"method":"mining.submit",`, "") + "\x00", pool: plainShare},
		{line: `{"id":9,"method":"mining.submit","params":["\u0074hief.x","\u0062tc-1","00","5f000000","00000001"]}`, pool: plainShare},
		{line: `{"id":9,"method":"foo","params":["é矿工"],"more":1}`, pool: `{"id":9,"method":"foo","params":["é矿工"],"more":1}`},
		{line: `{"id":9,"n":1.50,"\u0069d":9,"method":"foo","params":[1.0,2e3,"\/"]}`, pool: `{"id":9,"method":"foo","params":[1.0,2e3,"/"],"n":1.50}`},
	} {
		sc.Miner.SendLine(c.line)
		if c.pool != "" {
			if got := btc.Line(stratumtest.Patience); got != c.pool {
				t.Errorf("%s\npool got %s\n    want %s", c.line, got, c.pool)
			}
		}
		if c.miner != "" {
			if got := sc.Miner.Line(stratumtest.Patience); got != c.miner {
				t.Errorf("%s\nminer got %s\n     want %s", c.line, got, c.miner)
			}
		}
		end := `{"id":"end","method":"mining.ping","params":[]}`
		sc.Miner.SendLine(end)
		if got := btc.Line(stratumtest.Patience); got != end {
			t.Fatalf("%s\npool got one more line: %s", c.line, got)
		}
		btc.SendLine(goodAnswer(`"end"`))
		if got := sc.Miner.Line(stratumtest.Patience); got != goodAnswer(`"end"`) {
			t.Fatalf("%s\nminer got one more line: %s", c.line, got)
		}
	}
}

// Escapes and objects in a pool's lines are not faults. A line that another reader
// may understand differently reaches the miner in one plain form.
func TestOddPoolLines(t *testing.T) {
	sc, btc := startScene(t, "bitcoin", nil, "btc")
	for _, c := range []struct{ line, miner string }{
		{`{"id":null,"method":"client.show_message","params":["\u4e2d\/"]}`, `{"id":null,"method":"client.show_message","params":["\u4e2d\/"]}`},
		{`{"id":null,"method":"x","params":{"method":"client.reconnect"}}`, `{"id":null,"method":"x","params":{"method":"client.reconnect"}}`},
		{`{"id":null,"method":"x","params":[],"method":"y"}`, `{"id":null,"method":"y","params":[]}`},
		{`{"id":null,"m\u0065thod":"x","params":[]}`, `{"id":null,"method":"x","params":[]}`},
		{`{"id":null,"method":"mining.notify","params":[],"method":"mining.set_extranonce_","params":[1]}`, `{"id":null,"method":"mining.set_extranonce_","params":[1]}`},
		{"Welcome!", ""}, {`{"id":1,"result":`, ""}, {`[{"method":"client.reconnect"}]`, ""}, {"", ""},
	} {
		btc.SendLine(c.line)
		if c.miner != "" {
			sc.Miner.ExpectLine(c.miner)
		}
		sc.Share(btc, "5", "btc-1")
		sc.Answered(btc, "5")
	}
}
