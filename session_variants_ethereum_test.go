package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// Pools of the other chains also have many ways of saying that there is no error.
func TestPoolVariantsOtherChains(t *testing.T) {
	t.Parallel()
	const (
		subscribe = `{"id":1,"method":"mining.subscribe","params":["m/1"]}`
		authorize = `{"id":2,"method":"mining.authorize","params":["alice.1","x"]}`
		login     = `{"id":2,"jsonrpc":"2.0","method":"eth_submitLogin","params":["alice.1","x"]}`
		ethJob    = `{"id":null,"method":"mining.notify","params":["j","a","b",true]}`
	)
	for _, chain := range []struct {
		name, chain string
		miner       []string
		subscribed  string // the pool's result
		method      string
		job         string
		yes         string // the miner's answer
	}{
		{"Stratum", "ethereum", []string{subscribe, authorize}, "true", "mining.authorize", ethJob, goodAnswer("2")},
		{"ETHProxy", "ethereum", []string{login}, "true", "eth_submitLogin", `{"id":0,"jsonrpc":"2.0","result":["0xaa","0xbb","0xcc"]}`, `{"id":2,"jsonrpc":"2.0","result":true}`},
		{"EthereumStratum", "ethereum", []string{`{"id":1,"method":"mining.subscribe","params":["m/1","EthereumStratum/1.0.0"]}`, authorize},
			`[["mining.notify","010080","EthereumStratum/1.0.0"],"010080"]`, "mining.authorize", ethJob, goodAnswer("2")},
		{"decred", "decred-gominer", []string{subscribe, authorize}, `[[["mining.notify","80000001"]],"80000001",8]`, "mining.authorize", stratumtest.JobLine("j", true), goodAnswer("2")},
	} {
		for _, c := range []struct {
			form, authorized string
			refused          bool
		}{
			{`,"error":null`, "true", false},
			{`,"error":false`, "true", false},
			{`,"error":[]`, "true", false},
			{`,"error":[ ]`, "null", false},
			{`,"error":{}`, "null", false},
			{`,"error":""`, "true", false},
			{`,"error":0`, "true", false},
			{``, "null", false},
			{`,"error":null`, "false", true},
			{`,"error":[24,"no",null]`, "null", true},
			{`,"error":{"code":24,"message":"no"}`, "null", true},
			{`,"error":"no"`, "null", true},
		} {
			t.Run(fmt.Sprintf("%s %s %s", chain.name, c.authorized, c.form), func(t *testing.T) {
				t.Parallel()
				sw, pool, _ := startScripted(t, chain.chain, func(cfg *Config) {
					cfg.StratumServerMap["btc"] = StratumServerInfo{URL: cfg.StratumServerMap["btc"].URL, Worker: "{account}.{miner}"}
				})
				miner := stratumtest.DialRaw(t, sw.addr)
				miner.Send(joinLines(chain.miner...))
				if len(chain.miner) > 1 {
					miner.Line(stratumtest.Patience)
				}
				link := pool.Next()
				link.ExpectMethod("mining.subscribe")
				link.ExpectMethod(chain.method)
				first := c.form
				if c.refused {
					first = `,"error":null`
				}
				link.Send(joinLines(
					fmt.Sprintf(`{"id":2147400000,"result":%s%s}`, chain.subscribed, first),
					fmt.Sprintf(`{"id":2147400001,"result":%s%s}`, c.authorized, c.form)))
				if c.refused {
					// A 302 would say that the pool failed.
					if got := miner.Line(stratumtest.Patience); strings.Contains(got, `"result":true`) || strings.Contains(got, "302") {
						t.Errorf("the miner got %s", got)
					}
					return
				}
				link.SendLine(chain.job)
				miner.ExpectJSON(chain.yes)
			})
		}
	}
}

// Decred's pools and miners have the same habits as bitcoin's.
func TestDecredVariants(t *testing.T) {
	t.Parallel()
	for chain, x := range map[string]string{"decred-normal": "000000000000000080000001", "decred-gominer": "80000001"} {
		subscribed := fmt.Sprintf(`{"id":2147400000,"result":[[["mining.notify","x"]],%q,8],"error":null}`+"\n", x)
		for _, c := range []struct {
			name                     string
			leading, banner, between string
			failure                  bool
		}{
			{name: "plain"},
			{name: "leading bytes", leading: "\ufeff\r\n \x00"},
			{name: "banner", banner: "Welcome\r\n\r\n"},
			{name: "byte-order mark", banner: "\ufeff"},
			{name: "ends of C strings", between: "\x00"},
			{name: "reconnect to nowhere", between: `{"id":null,"method":"client.reconnect","params":[]}` + "\n"},
			{name: "unknown method", between: `{"id":5,"method":"client.get_version","params":[]}` + "\n"},
			{name: "reconnect to a host", between: `{"id":null,"method":"client.reconnect","params":["h",1]}` + "\n", failure: true},
			{name: "other extranonce", between: `{"id":null,"method":"mining.set_extranonce","params":["bb",8]}` + "\n", failure: true},
			{name: "other extranonce, bare", between: `{"id":null,"method":"set_extranonce","params":["bb",8]}` + "\n", failure: true},
			{name: "web server", banner: "HTTP/1.1 400 Bad Request\r\n", failure: true},
			{name: "six lines of junk", banner: strings.Repeat("junk\n", 6), failure: true},
		} {
			t.Run(chain+" "+c.name, func(t *testing.T) {
				t.Parallel()
				sw, btc, bcc := startScripted(t, chain, nil)
				sw.setTiming(func(tm *timing) { tm.difficultyGrace = difficultyGrace })
				miner := stratumtest.DialRaw(t, sw.addr)
				miner.Send(c.leading + `{"id":1,"method":"mining.subscribe","params":["m/1"]}` + "\n" + c.leading + textAuthorize + "\n")
				miner.ExpectLine(fmt.Sprintf(`{"id":1,"result":[[["mining.set_difficulty",%q],["mining.notify",%q]],%q,8],"error":null}`, x, x, x))
				link := btc.Next()
				link.ExpectMethod("mining.subscribe")
				link.ExpectMethod("mining.authorize")
				link.Send(c.banner + subscribed + c.between + `{"id":2147400001,"result":null}` + "\n" + textJob + "\n")
				if c.failure {
					miner.ExpectLine(`{"id":2,"result":null,"error":[302,"Connect Stratum Server Failed",1]}`)
					return
				}
				miner.ExpectLine(goodAnswer("2"))
				if c.name == "unknown method" {
					miner.ExpectMethod("client.get_version")
				}
				miner.ExpectLine(textJob)
				// The next pool has a job of the same number and writes its clean flag as 0.
				sw.coins.set("alice", "bcc")
				next := bcc.Next()
				next.ExpectMethod("mining.subscribe")
				next.ExpectMethod("mining.authorize")
				next.Send(subscribed + withOwnID(textPoolAuthorized, 1) + "\n" + `{"id":null,"method":"mining.notify","params":[7,"00","01","02",[],"20000000","1d00ffff","5f000000",0]}` + "\n")
				miner.ExpectLine(`{"id":null,"method":"mining.notify","params":[7,"00","01","02",[],"20000000","1d00ffff","5f000000",true]}`)
				miner.ExpectLine(`{"id":null,"method":"mining.set_difficulty","params":[1]}`)
				miner.SendLine(`{"id":9,"method":"mining.submit","params":["alice.rig1","7","aabb","5f000000","00"]}`)
				next.ExpectLine(`{"id":9,"method":"mining.submit","params":["alice.rig1","7","aabb","5f000000","00"]}`)
			})
		}
	}
}

// Ethereum's miners may send the worker field as a number.
func TestEthereumNumericWorkers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, worker, want string }{
		{"alice", `1`, "alice.1"},
		{"alice", `0`, "alice.0"},
		{"alice", `"007"`, "alice.007"},
		{"alice", `12345678901234567890`, "alice.12345678901234567890"},
		{"alice.5", `null`, "alice.5"},
		{"alice.5", `""`, "alice.5"},
		{"alice", `{"a":1}`, "alice"},
		{"alice", `true`, "alice"},
		{"0x1234567890123456789012345678901234567890.alice", `7`, "alice.7"},
	} {
		for _, proxy := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s %s %v", c.name, c.worker, proxy), func(t *testing.T) {
				t.Parallel()
				sw, pool, _ := startScripted(t, "ethereum", nil)
				miner := stratumtest.DialRaw(t, sw.addr)
				method := "mining.authorize"
				if proxy {
					method = "eth_submitLogin"
				} else {
					miner.SendLine(`{"id":1,"method":"mining.subscribe","params":["m/1"]}`)
					miner.Line(stratumtest.Patience)
				}
				miner.SendLine(fmt.Sprintf(`{"id":2,"worker":%s,"method":%q,"params":[%q,"x"]}`, c.worker, method, c.name))
				link := pool.Next()
				link.ExpectMethod("mining.subscribe")
				link.ExpectLine(fmt.Sprintf(`{"id":2147400001,"method":%q,"params":[%q,"x"]}`, method, c.want))
			})
		}
	}
}
