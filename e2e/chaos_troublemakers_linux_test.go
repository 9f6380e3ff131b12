//go:build linux && e2e

package e2e

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratumtest"
)

// troublemakers are miners that pools do not treat well and that connect again and
// again, to pools that work for others and to one that fails for everybody.
type troublemakers struct {
	t    *testing.T
	addr string // of the daemon
	ill  *stratumtest.Pool
	crew []badWorker

	stop  context.CancelFunc
	ended sync.WaitGroup

	mu       sync.Mutex // guards the following fields
	outcomes map[string]int
	wrong    []string
}

// badWorker is one of them.
type badWorker struct {
	name, coin string
	how        stratumtest.Treatment
}

// illCoin is the coin of the pool that fails for everybody.
const illCoin = "ill"

// badTreatments are what happens to troublemakers.
var badTreatments = []stratumtest.Treatment{
	stratumtest.TreatRefuseAndClose, stratumtest.TreatClose, stratumtest.TreatHang, stratumtest.TreatFlap, stratumtest.TreatSlowly,
}

const (
	badAccountsOfAKind    = 3 // at each coin; as many as must fail for an address to be taken out
	badWorkersOfAnAccount = 2
	badPause              = time.Second
	badPatience           = 12 * time.Second
)

// treatments tells a pool how to treat the troublemakers. Their names contain the
// kind.
func treatmentsOfTroublemakers() map[string]stratumtest.Treatment {
	by := make(map[string]stratumtest.Treatment)
	for _, how := range badTreatments {
		by[badName(how)] = how
		// These are some workers of an account whose other workers are good.
		by["good."+badName(how)] = how
	}
	return by
}

func badName(how stratumtest.Treatment) string {
	return "bad-" + strings.ReplaceAll(string(how), " ", "-")
}

// newTroublemakers makes the troublemakers of some coins, and adds the coins of
// their accounts to coins.
func newTroublemakers(t *testing.T, ill *stratumtest.Pool, coins map[string]string, at ...string) *troublemakers {
	b := &troublemakers{t: t, ill: ill, outcomes: make(map[string]int)}
	for _, coin := range at {
		for _, how := range badTreatments {
			for i := range badAccountsOfAKind {
				account := fmt.Sprintf("%s-%s%d", badName(how), coin, i)
				coins[account] = coin
				for j := range badWorkersOfAnAccount {
					b.crew = append(b.crew, badWorker{fmt.Sprintf("%s.w%d", account, j), coin, how})
				}
			}
		}
	}
	for _, how := range badTreatments {
		b.crew = append(b.crew, badWorker{"good." + badName(how), steadyCoin, how})
	}
	for i := range badAccountsOfAKind {
		account := fmt.Sprintf("ill%d", i)
		coins[account] = illCoin
		for j := range 2 * badWorkersOfAnAccount {
			b.crew = append(b.crew, badWorker{fmt.Sprintf("%s.w%d", account, j), illCoin, "any"})
		}
	}
	return b
}

// begin makes all connect, and the broken pool change the way it fails.
func (b *troublemakers) begin() {
	ctx, cancel := context.WithCancel(context.Background())
	b.stop = cancel
	for _, w := range b.crew {
		b.ended.Go(func() {
			for pause(ctx, rand.N(2*badPause)) {
				b.visit(ctx, w)
			}
		})
	}
	b.ended.Go(func() { b.beIll(ctx) })
}

// end makes all leave.
func (b *troublemakers) end() {
	b.stop()
	b.ended.Wait()
}

// pause reports whether the time passed before ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// visit is one connection of a worker.
func (b *troublemakers) visit(ctx context.Context, w badWorker) {
	m, err := stratumtest.NewMiner(stratumtest.MinerOptions{Addr: b.addr, Worker: w.name, Manual: true})
	if err != nil {
		b.note(w, "no connection", "")
		return
	}
	defer m.Close()
	ctx, cancel := context.WithTimeout(ctx, badPause+rand.N(badPatience))
	defer cancel()
	m.WaitFor(ctx, func(st stratumtest.MinerStats) bool { return st.AuthorizeError != "" || st.Disconnected })
	st := m.Stats()
	switch said := st.AuthorizeError; {
	case strings.Contains(said, "Unauthorized worker"):
		b.note(w, "refused by the pool", said)
	case said != "":
		b.note(w, "refused: "+said[max(0, len(said)-60):], said)
	case st.Disconnected:
		b.note(w, "closed", "")
	case st.Authorized:
		b.note(w, "mined until it left", "")
	default:
		b.note(w, "left", "")
	}
}

func (b *troublemakers) note(w badWorker, outcome, said string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.outcomes[fmt.Sprintf("%s at %s: %s", w.how, w.coin, outcome)]++
	if w.how == stratumtest.TreatRefuseAndClose && w.coin == steadyCoin && said != "" && outcome != "refused by the pool" {
		b.wrong = append(b.wrong, w.name+": "+said)
	}
}

// beIll makes the broken pool treat everybody badly, in one way after the other.
func (b *troublemakers) beIll(ctx context.Context) {
	for {
		b.ill.SetModes(stratumtest.Modes{})
		b.ill.Restart()
		switch n := rand.N(len(badTreatments) + 3); n {
		case 0:
			b.ill.SetModes(stratumtest.Modes{Hang: true})
		case 1:
			b.ill.SetModes(stratumtest.Modes{HandshakeDelay: 4 * time.Second})
		case 2:
			b.ill.Close()
		default:
			b.ill.SetTreatments(map[string]stratumtest.Treatment{"": badTreatments[n-3]})
		}
		if !pause(ctx, time.Second+rand.N(4*time.Second)) {
			break
		}
	}
	b.ill.SetModes(stratumtest.Modes{})
	b.ill.Restart()
	b.ill.CloseConnections()
}

// report logs what became of them, and fails the test if one that a pool has
// refused did not get the pool's answer.
func (b *troublemakers) report() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, what := range slices.Sorted(maps.Keys(b.outcomes)) {
		b.t.Logf("%6d %s", b.outcomes[what], what)
	}
	for i, text := range b.wrong {
		if i < 5 {
			b.t.Errorf("a pool's refusal was not passed on to the miner: %s", text)
		}
	}
}
