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
