//go:build linux && e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/daemontest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// authorizeLine returns a mining.authorize.
func authorizeLine(id, worker, password string) string {
	return fmt.Sprintf(`{"id":%s,"method":"mining.authorize","params":[%q,%q]}`, id, worker, password)
}

// A job that the miner knows by another ID than the pool is still translated after
// upgrades, while the former link drains and after a switch away from the pool.
func TestUpgradeKeepsRenamedJobs(t *testing.T) {
	t.Parallel()
	sc, p, btc := startScene(t, 600, "btc", "bcc", "bsv")
	p.SetCoins(map[string]string{"alice": "bcc"})
	bcc := sc.Serve("bcc", "btc-1")
	sc.Miner.ExpectLine(testkit.DifficultyLine)
	var job struct{ Params []any }
	testkit.Must(t, json.Unmarshal([]byte(sc.Miner.Line(stratumtest.Patience)), &job))
	told := fmt.Sprint(job.Params[0])
	if told == "btc-1" {
		t.Fatal("the miner was told two jobs by one ID")
	}
	check := func(first int) {
		t.Helper()
		old, renamed := fmt.Sprint(first), fmt.Sprint(first+1)
		sc.Share(btc, old, "btc-1")
		sc.ShareAs(bcc, renamed, told, "btc-1")
		sc.Answered(btc, old)
		sc.Answered(bcc, renamed)
	}
	check(10)
	sc.ShareAs(bcc, "12", told, "btc-1") // it is answered after the upgrade
	p.GoodUpgrade()
	sc.Answered(bcc, "12")
	check(13)
	p.SetCoins(map[string]string{"alice": "bsv"})
	bsv := sc.Serve("bsv", "bsv-1")
	sc.ExpectWork("bsv-1")
	p.GoodUpgrade()
	check(15)
	sc.Share(bsv, "17", "bsv-1")
	sc.Answered(bsv, "17")
}

// The pool has not answered for a further worker when the process is replaced. The
// answer reaches the miner if it comes afterwards, and otherwise the next pool's does.
func TestUpgradeFurtherWorkerUnanswered(t *testing.T) {
	t.Parallel()
	for _, moves := range []bool{false, true} {
		t.Run(fmt.Sprintf("moves %v", moves), func(t *testing.T) {
			t.Parallel()
			sc, p, btc := startScene(t, 10, "btc", "bcc")
			sc.Miner.SendLine(authorizeLine(`"w"`, "alice.2", "x"))
			btc.ExpectLine(authorizeLine(`"w"`, "alice.2", "x"))
			p.GoodUpgrade()
			if moves {
				p.SetCoins(map[string]string{"alice": "bcc"})
				bcc := sc.Accept("bcc")
				asked := bcc.ExpectMethod("mining.authorize")
				id := string(stratum.LineID([]byte(asked)))
				if want := authorizeLine(id, "alice.2", "x"); asked != want {
					t.Fatalf("the pool got %s, want %s", asked, want)
				}
				bcc.Send(testkit.DifficultyLine + "\n" + stratumtest.JobLine("bcc-1", true) + "\n")
				sc.ExpectWork("bcc-1")
				p.GoodUpgrade()
				btc.SendLine(testkit.GoodAnswer(`"w"`)) // too late
				bcc.SendLine(fmt.Sprintf(`{"id":%s,"result":null,"error":[24,"no",null]}`, id))
				sc.Miner.ExpectLine(`{"id":"w","result":null,"error":[24,"no",null]}`)
				sc.Share(bcc, "9", "bcc-1")
				sc.Answered(bcc, "9")
				return
			}
			sc.Answered(btc, `"w"`)
			sc.Share(btc, "9", "btc-1")
			sc.Answered(btc, "9")
		})
	}
}

// The same holds for the first worker's new password, which the next link uses after the
// pool has accepted it.
func TestUpgradePasswordUnanswered(t *testing.T) {
	t.Parallel()
	pool := testkit.StartScriptedPool(t)
	c := daemontest.FileConfig()
	c.ExtraNonce2Size = 3
	c.StratumServerMap["own"] = daemontest.PoolConfig{URL: pool.Addr(), ExtraNonce: "pool"}
	p := daemontest.Start(t, c, map[string]string{"alice": "own"})
	miner := stratumtest.DialRaw(t, p.Addr)
	var link *stratumtest.Raw
	serve := func(password string) {
		t.Helper()
		link = pool.Next()
		id := string(stratum.LineID([]byte(link.ExpectMethod("mining.subscribe"))))
		link.SendLine(fmt.Sprintf(`{"id":%s,"result":[[["mining.notify","x"]],"aa",4],"error":null}`, id))
		asked := link.ExpectMethod("mining.authorize")
		id = string(stratum.LineID([]byte(asked)))
		if want := authorizeLine(id, "alice.1", password); asked != want {
			t.Fatalf("the pool got %s, want %s", asked, want)
		}
		link.SendLine(testkit.GoodAnswer(id))
		link.SendLine(testkit.SceneJob("j", "01", "02", true))
	}
	job := func() {
		t.Helper()
		if line := miner.Line(stratumtest.Patience); !strings.Contains(line, `"mining.notify"`) {
			t.Fatalf("the miner got %s, want a job", line)
		}
	}
	miner.Send(testkit.RawSubscribe + "\n" + testkit.RawAuthorize + "\n")
	miner.Line(stratumtest.Patience)
	serve("x")
	miner.ExpectLine(testkit.GoodAnswer("2"))
	job()
	miner.SendLine(authorizeLine("5", "alice.1", "d=4096"))
	link.ExpectLine(authorizeLine("5", "alice.1", "d=4096"))
	p.GoodUpgrade()
	link.SendLine(testkit.GoodAnswer("5"))
	miner.ExpectLine(testkit.GoodAnswer("5"))
	p.GoodUpgrade()
	link.SendLine(`{"id":null,"method":"client.reconnect","params":[]}`)
	serve("d=4096")
	job()
}
