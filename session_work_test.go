package main

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/hashrate"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// passOn lets the link send a line and wants the miner to get it.
func (sc *scene) passOn(link *stratumtest.Raw, line string) {
	sc.T.Helper()
	link.SendLine(line)
	sc.Miner.ExpectLine(line)
}

func setDifficulty(value string) string {
	return `{"id":null,"method":"mining.set_difficulty","params":[` + value + `]}`
}

// refused lets the link refuse a request with an error.
func (sc *scene) refused(link *stratumtest.Raw, id, e string) {
	sc.T.Helper()
	sc.passOn(link, fmt.Sprintf(`{"id":%s,"result":null,"error":%s}`, id, e))
}

// Each share counts with the difficulty of its job, whatever happens between the
// job, the share and its answer.
func TestWorkIsThatOfTheJob(t *testing.T) {
	sc, btc := startScene(t, "bitcoin", nil, "btc", "bcc")
	sc.Share(btc, "10", "btc-1")
	sc.Answered(btc, "10") // 1
	sc.passOn(btc, setDifficulty("8"))
	sc.Share(btc, "11", "btc-1")
	sc.Answered(btc, "11") // 1, because the difficulty is for later jobs
	sc.passOn(btc, jobLine("btc-2", false))
	sc.Share(btc, "12", "btc-1")
	sc.Share(btc, "13", "btc-2")
	sc.passOn(btc, setDifficulty("1.6e1"))
	sc.passOn(btc, jobLine("btc-3", false))
	sc.Answered(btc, "12") // 1
	sc.Answered(btc, "13") // 8, as when the job was sent
	sc.Share(btc, "14", "btc-2")
	sc.refused(btc, "14", `[23,"Low difficulty share",null]`) // 8 lost
	sc.passOn(btc, `{"id":null,"method":"mining.set_target","params":["`+strings.Repeat("0", 9)+"7fff8"+strings.Repeat("0", 50)+`"]}`)
	sc.passOn(btc, jobLine("btc-4", false))
	sc.Share(btc, "15", "btc-4")
	sc.Answered(btc, "15") // 32

	bcc := sc.switchTo("bcc", "bcc-1")
	sc.Share(btc, "16", "btc-3")
	sc.Answered(btc, "16") // 16, at the former pool
	sc.Share(bcc, "17", "bcc-1")
	sc.Answered(bcc, "17") // 1
	sc.Share(btc, "18", "btc-4")
	sc.refused(btc, "18", `[21,"Job not found",null]`) // 32 lost
	sc.Share(bcc, "19", "bcc-1")
	sc.refused(bcc, "19", `[22,"Duplicate share",null]`) // 1 lost
	// A difficulty that cannot be read is unknown, and not zero.
	sc.passOn(bcc, setDifficulty(`"high"`))
	sc.passOn(bcc, jobLine("bcc-2", false))
	sc.Share(bcc, "20", "bcc-2")
	sc.Answered(bcc, "20")

	want := func(who string, got hashrate.Totals, submitted, accepted, unknown uint64, work float64, lost map[hashrate.Refusal]float64) {
		t.Helper()
		if got.Submitted != submitted || got.Accepted != accepted || got.Unknown != unknown || got.Work != work {
			t.Errorf("%s has the wrong counts %+v", who, got)
		}
		for r := range hashrate.Refusals {
			if got.Lost[r] != lost[r] || (got.Refused[r] > 0) != (lost[r] > 0) {
				t.Errorf("%s: %d shares and work of %v refused as %s, want %v", who, got.Refused[r], got.Lost[r], r, lost[r])
			}
		}
	}
	btcLost := map[hashrate.Refusal]float64{hashrate.RefusalLowDifficulty: 8, hashrate.RefusalStale: 32}
	want("btc", sc.sw.pools["btc"].totals(), 8, 6, 0, 1+1+1+8+32+16, btcLost)
	want("bcc", sc.sw.pools["bcc"].totals(), 3, 2, 1, 1, map[hashrate.Refusal]float64{hashrate.RefusalDuplicate: 1})
	all := sc.sw.pools["btc"].totals().Plus(sc.sw.pools["bcc"].totals())
	if got := sc.sw.rates.accountRates()["alice"].totals; got != all {
		t.Errorf("the sub-account has %+v, but the coins have %+v", got, all)
	}
	found, _, err := sc.sw.search(nil, "alice")
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	if f := found[0].shown(); f.Accepted != 8 || f.Refused != 3 || f.Reasons["stale"] != 1 || f.Unknown != 1 || f.Recent.Rate == nil || !f.Recent.AtLeast || f.Difficulty != nil {
		t.Errorf("the miner has the wrong figures %+v", f)
	}
}

// If a pool sends no difficulty, it is 1.
func TestWorkOfThePoolsDefault(t *testing.T) {
	sc, _ := startScene(t, "bitcoin", nil, "btc", "bcc")
	sc.sw.coins.set("alice", "bcc")
	bcc := sc.Accept("bcc")
	bcc.SendLine(jobLine("bcc-1", true))
	sc.Miner.ExpectLine(jobLine("bcc-1", true))
	sc.Share(bcc, "10", "bcc-1")
	sc.Answered(bcc, "10")
	if got := sc.sw.pools["bcc"].totals(); got.Work != 1 || got.Unknown != 0 {
		t.Errorf("got wrong counts %+v", got)
	}
}

// On Ethereum, the target of mining.set_target is 2^256 divided by the hashes of a share,
// as in a job. It counts also if the pool sends it while the link is prepared.
func TestWorkOfEthereumTarget(t *testing.T) {
	sc, _ := startScene(t, "ethereum", nil, "eth")
	target := func(digit string) string { // of 2^36 hashes divided by the digit
		return `{"id":null,"method":"mining.set_target","params":["` + strings.Repeat("0", 8) + digit + strings.Repeat("0", 55) + `"]}`
	}
	job := func(id string) string {
		return `{"id":null,"method":"mining.notify","params":["` + id + `","a","b",true]}`
	}
	sc.Miner.SendLine(`{"id":1,"method":"mining.subscribe","params":["ethminer/0.19.0"]}`)
	sc.Miner.Line(stratumtest.Patience)
	sc.Miner.SendLine(`{"id":2,"method":"mining.authorize","params":["alice.1","x"]}`)
	eth := sc.Pools["eth"].Next()
	eth.ExpectMethod("mining.subscribe")
	eth.ExpectMethod("mining.authorize")
	eth.Send(joinLines(goodAnswer("2147400000"), target("4"), goodAnswer("2147400001"), job("1")))
	sc.Miner.ExpectLine(goodAnswer("2"))
	sc.Miner.ExpectLine(target("4"))
	sc.Miner.ExpectLine(job("1"))
	sc.Share(eth, "10", "1")
	sc.Answered(eth, "10") // 2^34 hashes are 4 units
	sc.passOn(eth, target("1"))
	sc.passOn(eth, job("2"))
	sc.Share(eth, "11", "2")
	sc.Answered(eth, "11") // 16
	if got := sc.sw.pools["eth"].totals(); got.Work != 4+16 || got.Unknown != 0 {
		t.Errorf("got wrong counts %+v", got)
	}
}

// Ten miners of three rates mine two coins, whose pools change the difficulty, with
// switches in between. Their hashrates are those that follow from the pools' own
// counts.
func TestHashratesOfSimulatedMiners(t *testing.T) {
	t.Parallel()
	btc, bcc := twoPools(t)
	coins := newMemoryCoins(map[string]string{"alice": "btc", "bob": "bcc", "carol": "btc"})
	began := time.Now()
	sw := startSwitcher(t, coins, []*stratumtest.Pool{btc, bcc}, nil)
	var miners []*stratumtest.Miner
	for i := range 10 {
		account, rate := []string{"alice", "bob", "carol"}[i%3], []float64{5, 10, 20}[i%3]
		miners = append(miners, startMiner(t, stratumtest.MinerOptions{Addr: sw.addr, Worker: fmt.Sprintf("%s.w%d", account, i), Rate: rate}))
	}
	for _, step := range []func(){
		func() { btc.SetShareBits(7, true) },
		func() { coins.set("alice", "bcc") },
		func() { bcc.SetShareBits(6, true) },
		func() { coins.set("alice", "btc"); coins.set("carol", "bcc") },
		func() {},
	} {
		time.Sleep(1200 * time.Millisecond)
		step()
	}
	for _, m := range miners {
		m.Close()
	}
	eventually(t, "the miners have left", func() bool { return sw.sessionCount() == 0 })
	sw.rates.advance()
	elapsed := time.Since(began).Seconds()

	near := func(what string, got, want float64) {
		t.Helper()
		if math.Abs(got-want) > 0.05*want {
			t.Errorf("%s: got %s, want %s", what, hashrate.Format(got), hashrate.Format(want))
		}
	}
	rates, pools := sw.rates.coinRates(), sw.rates.poolRates()
	for coin, p := range map[string]*stratumtest.Pool{"btc": btc, "bcc": bcc} {
		for w := range hashrate.Windows {
			got, known := rates[coin][w].Value()
			near(coin+" over "+w.String(), got, p.Stats().Work*float64(hashrate.UnitBitcoin)/elapsed)
			if !known || pools[poolKey{coin, p.Addr()}][w] != rates[coin][w] {
				t.Errorf("%s over %s: known is %v, at its address %v", coin, w, known, pools[poolKey{coin, p.Addr()}][w])
			}
		}
	}
	var ofCoins, ofAccounts hashrate.Totals
	for _, t := range sw.rates.byCoin() {
		ofCoins = ofCoins.Plus(t)
	}
	for _, name := range []string{"alice", "bob", "carol"} {
		ofAccounts = ofAccounts.Plus(sw.rates.comes(name).Totals())
	}
	if ofCoins != ofAccounts {
		t.Errorf("the coins have %+v, but the sub-accounts %+v", ofCoins, ofAccounts)
	}
}
