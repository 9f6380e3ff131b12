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

// ownScene is one raw miner at a scripted pool that picks the extranonce.
type ownScene struct {
	t           *testing.T
	sw          *testSwitcher
	miner, pool *stratumtest.Raw
	scripted    *testkit.ScriptedPool
}

func startOwnScene(t *testing.T) *ownScene {
	t.Helper()
	p := testkit.StartScriptedPool(t)
	sw := startSwitcher(t, newMemoryCoins(map[string]string{"alice": "own"}), nil, func(c *Config) {
		c.StratumServerMap = map[string]StratumServerInfo{"own": {URL: p.Addr(), UserSuffix: "own", ExtraNonce: extranonceOfPool}}
	})
	s := &ownScene{t: t, sw: sw, scripted: p, miner: stratumtest.DialRaw(t, sw.addr)}
	s.miner.SendLine(rawSubscribe)
	s.miner.ExpectLine(`{"id":1,"result":[[["mining.set_difficulty","80"],["mining.notify","80"]],"80",3],"error":null}`)
	s.miner.SendLine(rawAuthorize)
	s.pool = p.Next()
	return s
}

// ownJob is a job with its coinbase parts.
func ownJob(id, coinb1, coinb2 string, clean bool) string {
	return fmt.Sprintf(`{"id":null,"method":"mining.notify","params":["%s","00","%s","%s",[],"20000000","1d00ffff","5f000000",%v]}`, id, coinb1, coinb2, clean)
}

func ownShare(id int, job, extranonce2 string) string {
	return fmt.Sprintf(`{"id":%d,"method":"mining.submit","params":["alice.1","%s","%s","5f000000","00000000"]}`, id, job, extranonce2)
}

func setExtranonce(p string, size int) string {
	return fmt.Sprintf(`{"id":null,"method":"mining.set_extranonce","params":["%s",%d]}`, p, size)
}

// handshake answers subscribe and authorize, with lines between and after.
func (s *ownScene) handshake(p string, size int, between, after []string) {
	s.t.Helper()
	subscribe := s.pool.Line(stratumtest.Patience)
	if withOwnID(subscribe, 0) != withOwnID(`{"id":0,"method":"mining.subscribe","params":["raw/1.0"]}`, 0) {
		s.t.Errorf("pool got %s", subscribe)
	}
	s.pool.SendLine(fmt.Sprintf(`{"id":%s,"result":[[["mining.notify","x"]],"%s",%d],"error":null}`, stratum.LineID([]byte(subscribe)), p, size))
	authorize := s.pool.ExpectMethod("mining.authorize")
	for _, line := range between {
		s.pool.SendLine(line)
	}
	s.pool.SendLine(goodAnswer(string(stratum.LineID([]byte(authorize)))))
	for _, line := range after {
		s.pool.SendLine(line)
	}
}

// share has the miner send one, and the pool get it with another extranonce2.
func (s *ownScene) share(id int, job, want string) {
	s.t.Helper()
	s.miner.SendLine(ownShare(id, job, "aabbcc"))
	s.pool.ExpectLine(ownShare(id, job, want))
	s.pool.SendLine(goodAnswer(fmt.Sprint(id)))
	s.miner.ExpectLine(goodAnswer(fmt.Sprint(id)))
}

func TestSessionSetExtranonceInHandshake(t *testing.T) {
	for name, c := range map[string]struct {
		between, after []string
		jobs           []string // for the miner
		before         string   // of its extranonce2
	}{
		"before the answer": {
			[]string{difficultyLine, ownJob("void", "01", "02", true), setExtranonce("bb", 6)}, []string{ownJob("j", "01", "02", true)},
			[]string{difficultyLine, ownJob("j", "01bb0000", "02", true)}, "000080",
		},
		"after the answer": {
			nil, []string{setExtranonce("bb", 4), difficultyLine, ownJob("j", "01", "02", false)},
			[]string{difficultyLine, ownJob("j", "01bb", "02", false)}, "80",
		},
		"twice": {
			[]string{setExtranonce("cc", 4)}, []string{setExtranonce("", 5), ownJob("j", "01", "02", true)},
			[]string{ownJob("j", "0100", "02", true)}, "0080",
		},
		"with the first job": {
			nil, []string{ownJob("i", "01", "02", true), setExtranonce("bbcc", 4), ownJob("j", "03", "04", false)},
			[]string{ownJob("i", "01aaaaaaaa", "02", true), ownJob("j", "03bbcc", "04", false)}, "80",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := startOwnScene(t)
			s.handshake("aaaaaaaa", 4, c.between, c.after)
			s.miner.ExpectLine(`{"id":2,"result":true,"error":null}`)
			for _, job := range c.jobs {
				s.miner.ExpectLine(job)
			}
			s.share(3, "j", c.before+"aabbcc")
		})
	}
}

func TestSessionSetExtranonceRelaying(t *testing.T) {
	s := startOwnScene(t)
	s.handshake("aaaaaaaa", 4, nil, []string{ownJob("a", "01", "02", true)})
	s.miner.ExpectLine(`{"id":2,"result":true,"error":null}`)
	s.miner.ExpectLine(ownJob("a", "01aaaaaaaa", "02", true))

	// It counts from the next job on, once more if it comes twice.
	s.pool.SendLine(setExtranonce("bb", 7))
	s.pool.SendLine(setExtranonce("bb", 6))
	s.share(3, "a", "80aabbcc")
	s.pool.SendLine(ownJob("b", "01", "02", false))
	s.miner.ExpectLine(ownJob("b", "01bb0000", "02", false))
	s.share(4, "b", "000080aabbcc")
	s.share(5, "a", "80aabbcc")

	// A second change: each job keeps its own.
	s.pool.SendLine(setExtranonce("CC", 5))
	s.pool.SendLine(ownJob(`c\/`, "01", "02", false))
	s.miner.ExpectLine(ownJob(`c\/`, "01CC00", "02", false))
	s.miner.SendLine(ownShare(6, "c/", "aabbcc")) // its own way of writing it
	s.pool.ExpectLine(ownShare(6, "c/", "0080aabbcc"))
	s.pool.SendLine(goodAnswer("6"))
	s.miner.ExpectLine(goodAnswer("6"))
	s.share(7, "b", "000080aabbcc")
	s.share(8, "a", "80aabbcc")

	// Also after a clean job: pools take late shares for a while. Whose ID
	// comes again is the later job.
	s.pool.SendLine(setExtranonce("", 4))
	s.pool.SendLine(ownJob("a", "03", "04", true))
	s.miner.ExpectLine(ownJob("a", "03", "04", true))
	s.share(9, "a", "80aabbcc")
	s.share(10, "b", "000080aabbcc")
	s.share(11, "c/", "0080aabbcc")

	// In the end the former ones are forgotten.
	for i := range formerJobs {
		job := ownJob(fmt.Sprintf("n%d", i), "03", "04", false)
		s.pool.SendLine(job)
		s.miner.ExpectLine(job)
	}
	s.share(12, "b", "80aabbcc")
	s.share(13, "n0", "80aabbcc")

	// The parameters may be of a set_extranonce with more of them, and spaced.
	s.pool.SendLine(`{ "params" : [ "d0" , 4 , "x" ] , "method" : "mining.set_extranonce" }`)
	s.pool.SendLine(ownJob("z", "03", "04", true))
	s.miner.ExpectLine(ownJob("z", "03d0", "04", true))
	s.share(14, "z", "80aabbcc")
}

// What cannot be used costs the link, not the miner.
func TestSessionSetExtranonceMalformed(t *testing.T) {
	for _, line := range []string{
		`{"id":null,"method":"mining.set_extranonce","params":[]}`,
		`{"id":null,"method":"mining.set_extranonce"}`,
		`{"id":null,"method":"mining.set_extranonce","params":null}`,
		`{"id":null,"method":"mining.set_extranonce","params":["bb"]}`,
		`{"id":null,"method":"mining.set_extranonce","params":[null,4]}`,
		`{"id":null,"method":"mining.set_extranonce","params":["bb","4"]}`,
		`{"id":null,"method":"mining.set_extranonce","params":["bb",-1]}`,
		`{"id":null,"method":"mining.set_extranonce","params":["bb",33]}`,
		`{"id":null,"method":"mining.set_extranonce","params":["bb",4.5]}`,
		`{"id":null,"method":"mining.set_extranonce","params":["b",4]}`,
		`{"id":null,"method":"mining.set_extranonce","params":["zz",4]}`,
		`{"id":null,"method":"mining.set_extranonce","params":["` + strings.Repeat("aa", 33) + `",4]}`,
		`{"id":null,"method":"mining.set_extranonce","params":["bb",3]}`, // no room
		`{"id":null,"method":"mining.set_extranonce",`,
	} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			s := startOwnScene(t)
			s.handshake("aaaaaaaa", 4, nil, []string{ownJob("a", "01", "02", true)})
			s.miner.ExpectLine(`{"id":2,"result":true,"error":null}`)
			s.miner.ExpectLine(ownJob("a", "01aaaaaaaa", "02", true))
			s.pool.SendLine(line)
			s.pool.ExpectClosed()
			s.pool = s.scripted.Next()
			s.handshake("dd", 4, nil, []string{ownJob("b", "01", "02", false)})
			s.miner.ExpectLine(ownJob("b", "01dd", "02", true))
			s.share(3, "b", "80aabbcc")
		})
	}
}

// Answers to subscribe that no extranonce can be read from.
func TestSessionOwnSubscribeMalformed(t *testing.T) {
	for answer, why := range map[string]string{
		`[[],"aa"]`:     `pool answered subscribe with [[],"aa"]`,
		`true`:          `pool answered subscribe with true`,
		`[[],"a",4]`:    `pool gave extranonce "a", which is not hex`,
		`[[],17,4]`:     `pool gave extranonce 17`,
		`[[],"aa","4"]`: `pool gave extranonce2 size "4"`,
		`[[],"aa",1e9]`: `pool gave extranonce2 size 1e9`,
		`[[],"aa",2]`:   `pool gives extranonce2 size 2, this session needs 4`,
		`[[],"` + strings.Repeat("a", 66) + `",4]`: `pool gave extranonce "` + strings.Repeat("a", 66) + `"`,
	} {
		t.Run(answer, func(t *testing.T) {
			t.Parallel()
			s := startOwnScene(t)
			s.pool.Line(stratumtest.Patience)
			s.pool.SendLine(`{"id":2147400000,"result":` + answer + `,"error":null}`)
			s.miner.ExpectLine(`{"id":2,"result":null,"error":[302,"Connect Stratum Server Failed",1]}`)
			s.miner.ExpectClosed()
			events := s.sw.monitor.events.All()
			found := false
			for _, e := range events {
				found = found || strings.Contains(e.Detail, why)
			}
			if !found {
				t.Errorf("no event says %q: %+v", why, events)
			}
		})
	}
}

// Lines that are not understood go on as they are, and are counted.
func TestSessionOwnOddLines(t *testing.T) {
	s := startOwnScene(t)
	s.handshake("aaaaaaaa", 4, nil, []string{ownJob("a", "01", "02", true)})
	s.miner.ExpectLine(`{"id":2,"result":true,"error":null}`)
	s.miner.ExpectLine(ownJob("a", "01aaaaaaaa", "02", true))
	// Numbers for job IDs are as good as texts.
	s.pool.SendLine(`{"id":null,"method":"mining.notify","params":[7,"00","01","02"]}`)
	s.miner.ExpectLine(`{"id":null,"method":"mining.notify","params":[7,"00","01aaaaaaaa","02"]}`)
	s.miner.SendLine(`{"id":9,"method":"mining.submit","params":["alice.1",7,"aabbcc"]}`)
	s.pool.ExpectLine(`{"id":9,"method":"mining.submit","params":["alice.1",7,"80aabbcc"]}`)
	for i, line := range []string{
		ownShare(10, "a", "aabb"),
		ownShare(11, "a", "aabbccdd"),
		ownShare(12, "a", "aabbcg"),
		ownShare(13, "a", `\"\"\"\"\"\"`),
		ownShare(14, "a", `\u00aa`),
		`{"id":15,"method":"mining.submit","params":["alice.1","a"]}`,
		`{"id":16,"method":"mining.submit","params":[null,"a","aabbcc"]}`,
		`{"id":17,"method":"mining.submit","params":{"worker":"alice.1"}}`,
	} {
		s.miner.SendLine(line)
		s.miner.ExpectLine(fmt.Sprintf(`{"id":%d,"result":null,"error":[20,"Request Not Understood",1]}`, 10+i))
		if n := s.sw.notUnderstood.Load(); n != int64(i+1) {
			t.Errorf("after %s: %d counted", line, n)
		}
	}
	// A share in two pieces, and two in one.
	line := ownShare(3, "a", "aabbcc") + "\n"
	for _, piece := range []string{line[:7], line[7:60], line[60:] + line} {
		s.miner.Send(piece)
		time.Sleep(5 * time.Millisecond) // so that it is read by itself
	}
	for range 2 {
		s.pool.ExpectLine(ownShare(3, "a", "80aabbcc"))
	}
	// Spaces and another order stay; a line with an escape is sent anew.
	s.miner.SendLine("{ \"params\" : [ \"alice.1\" , \"a\" ,\"aabbcc\",\"5f000000\",\"00000000\" ] , \"id\" : \"x\",\"method\" : \"mining.submit\" }")
	s.pool.ExpectLine("{ \"params\" : [ \"alice.1\" , \"a\" ,\"80aabbcc\",\"5f000000\",\"00000000\" ] , \"id\" : \"x\",\"method\" : \"mining.submit\" }")
	s.miner.SendLine("{\t\"params\" : [ \"alice.1\" , \"a\" ,\"\\u0061abbcc\",\"5f000000\",\"00000000\" ] , \"id\" : \"y\",\"method\" : \"mining.submit\" }")
	s.pool.ExpectLine("{\"id\":\"y\",\"method\":\"mining.submit\",\"params\":[ \"alice.1\" , \"a\" ,\"80aabbcc\",\"5f000000\",\"00000000\" ]}")
}
