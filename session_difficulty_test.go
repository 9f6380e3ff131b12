package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

const highDifficulty = `{"id":null,"method":"mining.set_difficulty","params":[4096]}`

// A miner that comes to a pool that sends no difficulty gets the protocol's
// default, once, and not before the pool has had a second to send one.
func TestSessionDefaultDifficulty(t *testing.T) {
	const grace = 2 * difficultyGrace // a busy machine may be slow
	for name, play := range map[string]func(sc *scene, btc *stratumtest.Raw){
		"a switch": func(sc *scene, btc *stratumtest.Raw) {
			sc.sw.coins.set("alice", "bcc")
			began := time.Now()
			bcc := sc.Accept("bcc")
			bcc.SendLine(jobLine("bcc-1", false))
			sc.Miner.ExpectLine(jobLine("bcc-1", true))
			sc.Miner.ExpectLine(difficultyLine)
			if after := time.Since(began); after < grace*9/10 {
				sc.T.Errorf("the miner got the default after %v", after)
			}
			sc.Share(bcc, "5", "bcc-1")
			sc.Answered(bcc, "5")
			sc.Share(btc, "6", "btc-1") // now the former link drains
			sc.Answered(btc, "6")
			sc.Miner.ExpectNothing(grace + 100*time.Millisecond)
			bcc.SendLine(highDifficulty)
			sc.Miner.ExpectLine(highDifficulty)
		},
		"a lost pool": func(sc *scene, btc *stratumtest.Raw) {
			btc.Close()
			link := sc.Accept("btc")
			link.SendLine(jobLine("btc-2", true))
			sc.Miner.ExpectLine(jobLine("btc-2", true))
			sc.Miner.ExpectLine(difficultyLine)
		},
		"set before the job": func(sc *scene, btc *stratumtest.Raw) {
			sc.sw.coins.set("alice", "bcc")
			bcc := sc.Accept("bcc")
			bcc.Send(highDifficulty + "\n" + jobLine("bcc-1", true) + "\n")
			sc.Miner.ExpectLine(highDifficulty)
			sc.Miner.ExpectLine(jobLine("bcc-1", true))
			sc.Miner.ExpectNothing(grace + 200*time.Millisecond)
		},
		"lines without a difficulty": func(sc *scene, btc *stratumtest.Raw) {
			for i, params := range []string{`[]`, `[null]`, `["0"]`} {
				line := `{"id":null,"method":"mining.set_difficulty","params":` + params + `}`
				to := []string{"bcc", "btc"}[i%2]
				sc.sw.coins.set("alice", to)
				link := sc.Accept(to)
				id := fmt.Sprintf("%s-%d", to, 10+i)
				link.Send(line + "\n" + jobLine(id, true) + "\n" + line + "\n")
				sc.Miner.ExpectLine(line)
				sc.Miner.ExpectLine(jobLine(id, true))
				sc.Miner.ExpectLine(line)
				sc.Miner.ExpectLine(difficultyLine)
			}
		},
		"set in time": func(sc *scene, btc *stratumtest.Raw) {
			sc.sw.coins.set("alice", "bcc")
			bcc := sc.Accept("bcc")
			bcc.SendLine(jobLine("bcc-1", true))
			sc.Miner.ExpectLine(jobLine("bcc-1", true))
			bcc.SendLine(`{ "params" : [4096], "id" : null, "method" : "mining.set_difficulty" }`)
			sc.Miner.ExpectLine(`{ "params" : [4096], "id" : null, "method" : "mining.set_difficulty" }`)
			sc.Miner.ExpectNothing(grace + 200*time.Millisecond)
		},
		"gone again in time": func(sc *scene, btc *stratumtest.Raw) {
			sc.sw.coins.set("alice", "bcc")
			bcc := sc.Accept("bcc")
			bcc.SendLine(jobLine("bcc-1", true))
			sc.Miner.ExpectLine(jobLine("bcc-1", true))
			sc.sw.coins.set("alice", "btc")
			link := sc.Accept("btc")
			link.Send(highDifficulty + "\n" + jobLine("btc-2", true) + "\n")
			sc.Miner.ExpectLine(highDifficulty)
			sc.Miner.ExpectLine(jobLine("btc-2", true))
			bcc.SendLine(difficultyLine) // a former link's difficulty is not for the miner
			sc.Miner.ExpectNothing(grace + 200*time.Millisecond)
		},
		"lost in time": func(sc *scene, btc *stratumtest.Raw) {
			sc.sw.coins.set("alice", "bcc")
			bcc := sc.Accept("bcc")
			bcc.SendLine(jobLine("bcc-1", true))
			sc.Miner.ExpectLine(jobLine("bcc-1", true))
			bcc.Close()
			link := sc.Accept("bcc")
			sc.Miner.ExpectNothing(grace + 200*time.Millisecond) // without a job there is no difficulty
			link.Send(highDifficulty + "\n" + jobLine("bcc-2", true) + "\n")
			sc.Miner.ExpectLine(highDifficulty)
		},
		"the miner leaves in time": func(sc *scene, btc *stratumtest.Raw) {
			sc.sw.setTiming(func(tm *timing) { tm.difficultyGrace = time.Hour }) // no other timer takes as long
			sc.sw.coins.set("alice", "bcc")
			bcc := sc.Accept("bcc")
			bcc.SendLine(jobLine("bcc-1", true))
			sc.Miner.ExpectLine(jobLine("bcc-1", true))
			sc.Miner.Close()
			eventually(sc.T, "the session ends", func() bool { return sc.sw.sessionCount() == 0 })
			timers := 0
			for _, l := range sc.sw.loops {
				l.Call(func() {
					for _, due := range l.Held().Timers {
						if left := time.Until(due); left > 50*time.Minute && left <= time.Hour {
							timers++
						}
					}
				})
			}
			if timers > 0 {
				sc.T.Errorf("%d timers are left", timers)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sc, btc := startScene(t, "bitcoin", nil, "btc", "bcc")
			sc.sw.setTiming(func(tm *timing) { tm.difficultyGrace = grace })
			play(sc, btc)
		})
	}
}

// A first link needs no default, and the miners of agents have their own
// difficulties.
func TestSessionNoDefaultDifficulty(t *testing.T) {
	t.Parallel()
	for name, userAgent := range map[string]string{"first link": "raw/1.0", "agent": "btccom-agent/1"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			btc, bcc := testkit.StartScriptedPool(t), testkit.StartScriptedPool(t)
			coins := newMemoryCoins(map[string]string{"alice": "btc"})
			sw := startSwitcher(t, coins, nil, func(c *Config) {
				c.StratumServerMap = map[string]StratumServerInfo{"btc": {URL: btc.Addr()}, "bcc": {URL: bcc.Addr()}}
			})
			sw.setTiming(func(tm *timing) { tm.difficultyGrace = difficultyGrace })
			sc := &testkit.Scene{T: t, Pools: map[string]*testkit.ScriptedPool{"btc": btc, "bcc": bcc}, Miner: stratumtest.DialRaw(t, sw.addr)}
			sc.Miner.SendLine(`{"id":1,"method":"mining.subscribe","params":["` + userAgent + `"]}`)
			sc.Miner.Line(stratumtest.Patience)
			sc.Miner.SendLine(rawAuthorize)
			sc.Accept("btc").SendLine(jobLine("btc-1", true))
			sc.Miner.ExpectLine(`{"id":2,"result":true,"error":null}`)
			sc.Miner.ExpectLine(jobLine("btc-1", true))
			if name == "agent" {
				coins.set("alice", "bcc")
				sc.Accept("bcc").SendLine(jobLine("bcc-1", true))
				sc.Miner.ExpectLine(jobLine("bcc-1", true))
			}
			sc.Miner.ExpectNothing(difficultyGrace + 200*time.Millisecond)
		})
	}
}

func TestSetsDifficulty(t *testing.T) {
	for params, want := range map[string]bool{
		`[1]`: true, `[0.0001]`: true, `["512"]`: true, `["00ff"]`: true, `[1e-300]`: true, ` [ 5 , 6 ] `: true,
		`[]`: false, `null`: false, `{}`: false, `[null]`: false, `[""]`: false, `[[1]]`: false, `[true]`: false, `[0]`: false, `[0.0]`: false, `["0"]`: false, `[-1]`: false,
	} {
		line := []byte(`{"id":null,"method":"mining.set_difficulty","params":` + params + "}\n")
		if got := setsDifficulty(stratum.KindDifficulty, line); got != want {
			t.Errorf("%s: got %v", params, got)
		}
	}
	if setsDifficulty(stratum.KindTarget, []byte(`{"method":"mining.set_target","params":[]}`+"\n")) || !setsDifficulty(stratum.KindTarget, []byte(`{"method":"mining.set_target","params":["00ff"]}`+"\n")) {
		t.Error("a target counts if it is there")
	}
}
