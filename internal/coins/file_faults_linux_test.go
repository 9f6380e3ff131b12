package coins

import (
	"math/rand/v2"
	"os"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// Whatever takes the place of the file, or of its folder, is reported and changes
// nothing, and the next good file takes effect.
func TestCoinFileSpoilt(t *testing.T) {
	t.Parallel()
	for i, fault := range testkit.CoinFolderFaults {
		t.Run(fault.Name, func(t *testing.T) {
			t.Parallel()
			f := &testkit.CoinFolder{T: t, Rng: rand.New(rand.NewPCG(uint64(i), 5)), Dir: t.TempDir()}
			f.Swap(f.Folder(map[string]string{"alice": "btc"}))
			source, sink := startCoinFile(t, f.Path("cur", "coins.json"))
			wantLookup(t, source, "alice", "btc")
			fault.Spoil(f)
			if !fault.Root || os.Geteuid() != 0 {
				awaitTrue(t, "reported", func() bool {
					problem := make(chan string)
					source.mail.post(func() { problem <- source.problem })
					return <-problem != ""
				})
			}
			wantLookup(t, source, "alice", "btc")
			f.Mend(map[string]string{"alice": "bcc"})
			sink.wantCoin(t, "alice", "bcc")
			wantLookup(t, source, "alice", "bcc")
		})
	}
}
