package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// pickingScene is a testkit.PickingScene with the switcher inside the test process.
type pickingScene struct {
	*testkit.PickingScene
	sw *testSwitcher
}

func startPickingScene(t *testing.T) *pickingScene {
	t.Helper()
	return startPickingSceneWith(t, func(*Config) {})
}

// startPickingSceneWith is startPickingScene with a changed configuration.
func startPickingSceneWith(t *testing.T, change func(*Config)) *pickingScene {
	t.Helper()
	p := testkit.StartScriptedPool(t)
	sw := startSwitcher(t, newMemoryCoins(map[string]string{"alice": "own"}), nil, func(c *Config) {
		c.StratumServerMap = map[string]StratumServerInfo{"own": {URL: p.Addr(), UserSuffix: "own", ExtraNonce: extranonceOfPool}}
		change(c)
	})
	s := &pickingScene{PickingScene: &testkit.PickingScene{T: t, Scripted: p, Miner: stratumtest.DialRaw(t, sw.addr)}, sw: sw}
	s.Miner.SendLine(rawSubscribe)
	s.Miner.ExpectLine(`{"id":1,"result":[[["mining.set_difficulty","80"],["mining.notify","80"]],"80",3],"error":null}`)
	s.Miner.SendLine(rawAuthorize)
	s.Pool = p.Next()
	return s
}

func TestSessionSetExtranonceInHandshake(t *testing.T) {
	for name, c := range map[string]struct {
		between, after []string
		jobs           []string // lines that the miner gets
		before         string   // what comes before the extranonce2
	}{
		"before the answer": {
			[]string{difficultyLine, sceneJob("void", "01", "02", true), setExtranonce("bb", 6)}, []string{sceneJob("j", "01", "02", true)},
			[]string{difficultyLine, sceneJob("j", "01bb0000", "02", true)}, "000080",
		},
		"after the answer": {
			nil, []string{setExtranonce("bb", 4), difficultyLine, sceneJob("j", "01", "02", false)},
			[]string{difficultyLine, sceneJob("j", "01bb", "02", false)}, "80",
		},
		"twice": {
			[]string{setExtranonce("cc", 4)}, []string{setExtranonce("", 5), sceneJob("j", "01", "02", true)},
			[]string{sceneJob("j", "0100", "02", true)}, "0080",
		},
		"with the first job": {
			nil, []string{sceneJob("i", "01", "02", true), setExtranonce("bbcc", 4), sceneJob("j", "03", "04", false)},
			[]string{sceneJob("i", "01aaaaaaaa", "02", true), sceneJob("j", "03bbcc", "04", false)}, "80",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := startPickingScene(t)
			s.Handshake("aaaaaaaa", 4, c.between, c.after)
			s.Miner.ExpectLine(`{"id":2,"result":true,"error":null}`)
			for _, job := range c.jobs {
				s.Miner.ExpectLine(job)
			}
			s.Share(3, "j", c.before+"aabbcc")
		})
	}
}

func TestSessionSetExtranonceRelaying(t *testing.T) {
	s := startPickingScene(t)
	s.Handshake("aaaaaaaa", 4, nil, []string{sceneJob("a", "01", "02", true)})
	s.Miner.ExpectLine(`{"id":2,"result":true,"error":null}`)
	s.Miner.ExpectLine(sceneJob("a", "01aaaaaaaa", "02", true))

	// The change takes effect with the next job, and once more if it comes twice.
	s.Pool.SendLine(setExtranonce("bb", 7))
	s.Pool.SendLine(setExtranonce("bb", 6))
	s.Share(3, "a", "80aabbcc")
	s.Pool.SendLine(sceneJob("b", "01", "02", false))
	s.Miner.ExpectLine(sceneJob("b", "01bb0000", "02", false))
	s.Share(4, "b", "000080aabbcc")
	s.Share(5, "a", "80aabbcc")

	// After a second change, each job keeps its own extranonce.
	s.Pool.SendLine(setExtranonce("CC", 5))
	s.Pool.SendLine(sceneJob(`c\/`, "01", "02", false))
	s.Miner.ExpectLine(sceneJob(`c\/`, "01CC00", "02", false))
	s.Miner.SendLine(sceneShare(6, "c/", "aabbcc")) // the ID in the miner's own spelling
	s.Pool.ExpectLine(sceneShare(6, "c/", "0080aabbcc"))
	s.Pool.SendLine(goodAnswer("6"))
	s.Miner.ExpectLine(goodAnswer("6"))
	s.Share(7, "b", "000080aabbcc")
	s.Share(8, "a", "80aabbcc")

	// The jobs also count after a clean job, because pools accept late shares for a
	// while. If an ID comes again, it means the later job.
	s.Pool.SendLine(setExtranonce("", 4))
	s.Pool.SendLine(sceneJob("a", "03", "04", true))
	s.Miner.ExpectLine(sceneJob("a", "03", "04", true))
	s.Share(9, "a", "80aabbcc")
	s.Share(10, "b", "000080aabbcc")
	s.Share(11, "c/", "0080aabbcc")

	// In the end the former jobs are forgotten.
	for i := range formerJobs {
		job := sceneJob(fmt.Sprintf("n%d", i), "03", "04", false)
		s.Pool.SendLine(job)
		s.Miner.ExpectLine(job)
	}
	s.Share(12, "b", "80aabbcc")
	s.Share(13, "n0", "80aabbcc")

	// A set_extranonce may have more parameters, and spaces between them.
	s.Pool.SendLine(`{ "params" : [ "d0" , 4 , "x" ] , "method" : "mining.set_extranonce" }`)
	s.Pool.SendLine(sceneJob("z", "03", "04", true))
	s.Miner.ExpectLine(sceneJob("z", "03d0", "04", true))
	s.Share(14, "z", "80aabbcc")
}

// Some pools leave out "mining.", and some miners ignore the case. What the pool means by
// such a line must not depend on how the miner would read it.
func TestSessionSetExtranonceInOtherSpellings(t *testing.T) {
	for _, method := range []string{"set_extranonce", "Mining.Set_Extranonce", "mining.set_extranonc\\u0065", "set_\\u0065xtranonce"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			line := func(p string) string {
				return fmt.Sprintf(`{"id":0,"method":"%s","params":["%s",5.0],"error":null}`, method, p)
			}
			s := startPickingScene(t)
			s.Handshake("aaaaaaaa", 4, []string{line("bb")}, []string{sceneJob("a", "01", "02", true)})
			s.Miner.ExpectLine(`{"id":2,"result":true,"error":null}`)
			s.Miner.ExpectLine(sceneJob("a", "01bb00", "02", true))
			s.Pool.SendLine(line("cc"))
			s.Pool.SendLine(sceneJob("b", "01", "02", true))
			s.Miner.ExpectLine(sceneJob("b", "01cc00", "02", true))
			s.Share(3, "b", "0080aabbcc")
			s.Pool.SendLine(`{"id":null,"method":"MINING.notify","params":["c","00","01","02",[],"20000000","1d00ffff","5f000000",true]}`)
			s.Miner.ExpectLine(sceneJob("c", "01cc00", "02", true))
			s.Pool.SendLine(`{"id":null,"method":"Client.Reconnect","params":["h",1]}`)
			s.Pool = s.Scripted.Next()
			s.Handshake("dd", 4, nil, []string{sceneJob("d", "01", "02", true)})
			s.Miner.ExpectLine(sceneJob("d", "01dd", "02", true))
		})
	}
}

// An extranonce that cannot be used costs the link, and not the miner.
func TestSessionSetExtranonceMalformed(t *testing.T) {
	t.Parallel()
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
		`{"id":null,"method":"mining.set_extranonce","params":["bb",3]}`, // it leaves no room
		`{"id":null,"method":"mining.set_extranonce",`,
	} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			s := startPickingScene(t)
			s.Handshake("aaaaaaaa", 4, nil, []string{sceneJob("a", "01", "02", true)})
			s.Miner.ExpectLine(`{"id":2,"result":true,"error":null}`)
			s.Miner.ExpectLine(sceneJob("a", "01aaaaaaaa", "02", true))
			s.Pool.SendLine(line)
			s.Pool.ExpectClosed()
			s.Pool = s.Scripted.Next()
			s.Handshake("dd", 4, nil, []string{sceneJob("b", "01", "02", false)})
			s.Miner.ExpectLine(sceneJob("b", "01dd", "02", true))
			s.Share(3, "b", "80aabbcc")
		})
	}
}

// No extranonce can be read from these answers to subscribe.
func TestSessionPickingPoolSubscribeMalformed(t *testing.T) {
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
			s := startPickingScene(t)
			s.Pool.Line(stratumtest.Patience)
			s.Pool.SendLine(`{"id":2147400000,"result":` + answer + `,"error":null}`)
			s.Miner.ExpectLine(`{"id":2,"result":null,"error":[302,"Connect Stratum Server Failed",1]}`)
			s.Miner.ExpectClosed()
			events := s.sw.monitor.events.All()
			found := false
			for _, e := range events {
				found = found || strings.Contains(e.Detail, why)
			}
			if !found {
				t.Errorf("there is no event with %q: %+v", why, events)
			}
		})
	}
}

// Lines that are not understood are passed on unchanged, and are counted.
func TestSessionPickingPoolOddLines(t *testing.T) {
	s := startPickingScene(t)
	s.Handshake("aaaaaaaa", 4, nil, []string{sceneJob("a", "01", "02", true)})
	s.Miner.ExpectLine(`{"id":2,"result":true,"error":null}`)
	s.Miner.ExpectLine(sceneJob("a", "01aaaaaaaa", "02", true))
	// Job IDs that are numbers are treated like strings.
	s.Pool.SendLine(`{"id":null,"method":"mining.notify","params":[7,"00","01","02"]}`)
	s.Miner.ExpectLine(`{"id":null,"method":"mining.notify","params":[7,"00","01aaaaaaaa","02"]}`)
	s.Miner.SendLine(`{"id":9,"method":"mining.submit","params":["alice.1",7,"aabbcc"]}`)
	s.Pool.ExpectLine(`{"id":9,"method":"mining.submit","params":["alice.1",7,"80aabbcc"]}`)
	for i, line := range []string{
		sceneShare(10, "a", "aabb"),
		sceneShare(11, "a", "aabbccdd"),
		sceneShare(12, "a", "aabbcg"),
		sceneShare(13, "a", `\"\"\"\"\"\"`),
		sceneShare(14, "a", `\u00aa`),
		`{"id":15,"method":"mining.submit","params":["alice.1","a"]}`,
		`{"id":16,"method":"mining.submit","params":[null,"a","aabbcc"]}`,
		`{"id":17,"method":"mining.submit","params":{"worker":"alice.1"}}`,
	} {
		s.Miner.SendLine(line)
		s.Miner.ExpectLine(fmt.Sprintf(`{"id":%d,"result":null,"error":[20,"Request Not Understood",1]}`, 10+i))
		if n := s.sw.notUnderstood.Load(); n != int64(i+1) {
			t.Errorf("after %s, %d lines are counted", line, n)
		}
	}
	// One share comes in two pieces, and two come in one.
	line := sceneShare(3, "a", "aabbcc") + "\n"
	for _, piece := range []string{line[:7], line[7:60], line[60:] + line} {
		s.Miner.Send(piece)
		time.Sleep(5 * time.Millisecond) // so that the piece is read separately
	}
	for range 2 {
		s.Pool.ExpectLine(sceneShare(3, "a", "80aabbcc"))
	}
	// Spaces and the order of members stay. A line with an escape is written again.
	s.Miner.SendLine("{ \"params\" : [ \"alice.1\" , \"a\" ,\"aabbcc\",\"5f000000\",\"00000000\" ] , \"id\" : \"x\",\"method\" : \"mining.submit\" }")
	s.Pool.ExpectLine("{ \"params\" : [ \"alice.1\" , \"a\" ,\"80aabbcc\",\"5f000000\",\"00000000\" ] , \"id\" : \"x\",\"method\" : \"mining.submit\" }")
	s.Miner.SendLine("{\t\"params\" : [ \"alice.1\" , \"a\" ,\"\\u0061abbcc\",\"5f000000\",\"00000000\" ] , \"id\" : \"y\",\"method\" : \"mining.submit\" }")
	s.Pool.ExpectLine("{\"id\":\"y\",\"method\":\"mining.submit\",\"params\":[ \"alice.1\" , \"a\" ,\"80aabbcc\",\"5f000000\",\"00000000\" ]}")
}
