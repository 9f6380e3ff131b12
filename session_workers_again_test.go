package main

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// authorizeWith returns the mining.authorize of the first worker with a password.
func authorizeWith(id, password string) string {
	return fmt.Sprintf(`{"id":%s,"method":"mining.authorize","params":["alice.1",%q]}`, id, password)
}

// againScene is a miner at the coin "own", whose pool picks the extranonce. The coin
// "other" is of the same kind.
type againScene struct {
	*testkit.PickingScene
	t     *testing.T
	sw    *testSwitcher
	pools map[string]*testkit.ScriptedPool
}

func startAgainScene(t *testing.T, change func(*StratumServerInfo)) *againScene {
	t.Helper()
	s := &againScene{t: t, pools: map[string]*testkit.ScriptedPool{"own": testkit.StartScriptedPool(t), "other": testkit.StartScriptedPool(t)}}
	s.sw = startSwitcher(t, newMemoryCoins(map[string]string{"alice": "own"}), nil, func(c *Config) {
		c.ExtraNonce2Size = 3
		c.StratumServerMap = make(map[string]StratumServerInfo)
		for name, p := range s.pools {
			server := StratumServerInfo{URL: p.Addr(), UserSuffix: name, ExtraNonce: extranonceOfPool}
			if change != nil {
				change(&server)
			}
			c.StratumServerMap[name] = server
		}
	})
	s.PickingScene = &testkit.PickingScene{T: t, Miner: stratumtest.DialRaw(t, s.sw.addr)}
	s.Miner.Send(joinLines(rawSubscribe, rawAuthorize))
	s.Miner.Line(stratumtest.Patience)
	s.serve("own", "j1", "x")
	s.Miner.ExpectLine(goodAnswer("2"))
	s.expectJob("j1")
	return s
}

// serve accepts the next link to a pool, which has to authorize the worker with this
// password, and gives a job.
func (s *againScene) serve(pool, job, password string) {
	s.t.Helper()
	s.Pool = s.pools[pool].Next()
	s.Pool.SendLine(fmt.Sprintf(`{"id":%s,"result":[[["mining.notify","x"]],"aa",4],"error":null}`, lineIDOf(s.t, s.Pool.ExpectMethod("mining.subscribe"))))
	authorize := s.Pool.ExpectMethod("mining.authorize")
	id := lineIDOf(s.t, authorize)
	if want := authorizeWith(id, password); authorize != want {
		s.t.Fatalf("pool %s got %s, want %s", pool, authorize, want)
	}
	s.Pool.SendLine(goodAnswer(id))
	s.Pool.SendLine(sceneJob(job, "01", "02", true))
}

func (s *againScene) expectJob(job string) {
	s.t.Helper()
	s.Miner.ExpectLine(sceneJob(job, "01aa", "02", true))
}

// reconnect makes the pool ask for another link, which authorizes with this password.
func (s *againScene) reconnect(job, told, password string) {
	s.t.Helper()
	s.Pool.SendLine(`{"id":null,"method":"client.reconnect","params":[]}`)
	s.serve("own", job, password)
	s.expectJob(told)
}

func lineIDOf(t *testing.T, line string) string {
	t.Helper()
	var request struct{ ID json.RawMessage }
	mustDo(t, json.Unmarshal([]byte(line), &request))
	return string(request.ID)
}

// The first worker's mining.authorize with another password goes to a pool that picks the
// extranonce, because the password may hold options. Next links use it if the pool accepts it.
func TestFirstWorkerChangesItsPassword(t *testing.T) {
	t.Parallel()
	const refusal = `{"id":"r","result":null,"error":[24,"bad option",null]}`
	s := startAgainScene(t, nil)
	again := func(id, password, answer, told string) {
		t.Helper()
		s.Miner.SendLine(authorizeWith(id, password))
		s.Pool.ExpectLine(authorizeWith(id, password))
		s.Pool.SendLine(answer)
		s.Miner.ExpectLine(told)
	}
	again("5", "d=4096", goodAnswer("5"), goodAnswer("5"))
	s.reconnect("j2", "j2", "d=4096")
	again(`"r"`, "d=0", refusal, refusal)
	again("7", "d=1", `{"id":7,"result":false,"error":null}`, `{"id":7,"result":false,"error":null}`)
	s.reconnect("j3", "j3", "d=4096")
	// P2Pool's consent, to a request with the value of one of the switcher's ids.
	again("2147400000", "d=8", `{"id":2147400000,"result":null,"error":null}`, goodAnswer("2147400000"))

	// The same password again is answered without the pool, as is a further worker's own.
	s.Miner.SendLine(authorizeWith("8", "d=8"))
	s.Miner.ExpectLine(goodAnswer("8"))
	s.sw.coins.set("alice", "other")
	s.serve("other", "k1", "d=8")
	s.expectJob("k1")
	s.Share(9, "k1", "80aabbcc")
}

// A pool that is left or lost before it answers has not consented. The miner is at another
// pool then, which knows it by the former password.
func TestFirstWorkersPasswordUnanswered(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"switch", "lost"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			s := startAgainScene(t, nil)
			s.Miner.SendLine(authorizeWith("5", "d=4096"))
			s.Pool.ExpectLine(authorizeWith("5", "d=4096"))
			former, next := s.Pool, "own"
			if how == "switch" {
				next = "other"
				s.sw.coins.set("alice", next)
			} else {
				s.Pool.Close()
			}
			s.serve(next, "k1", "x")
			for range 2 {
				if line := s.Miner.Line(stratumtest.Patience); line != goodAnswer("5") && line != sceneJob("k1", "01aa", "02", true) {
					t.Fatalf("the miner got %s", line)
				}
			}
			if how == "switch" {
				former.SendLine(goodAnswer("5")) // too late
			}
			s.Share(6, "k1", "80aabbcc")
			s.Pool.SendLine(`{"id":null,"method":"client.reconnect","params":[]}`)
			s.serve(next, "k2", "x")
			s.expectJob("k2")
		})
	}
}

// The switcher answers itself where the password is configured.
func TestFirstWorkersPasswordIsConfigured(t *testing.T) {
	t.Parallel()
	s := startAgainScene(t, func(server *StratumServerInfo) { server.Password = "x" })
	s.Miner.SendLine(authorizeWith("5", "d=4096"))
	s.Miner.ExpectLine(goodAnswer("5"))
	s.Share(6, "j1", "80aabbcc")
}

// The same holds for pools that take the session's extranonce.
func TestFirstWorkersPasswordAtSessionCoins(t *testing.T) {
	t.Parallel()
	sc, btc := startScene(t, "bitcoin", nil, "btc", "bcc")
	sc.Miner.SendLine(authorizeWith("5", "d=4096"))
	sc.Miner.ExpectLine(goodAnswer("5"))
	sc.nothing(btc, "btc-1")
}
