//go:build linux && e2e

package e2e

import (
	"fmt"
	"os"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// TestMain runs the tests at the top of the repository, whose files they name.
func TestMain(m *testing.M) {
	if err := os.Chdir(".."); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	testkit.Cleanup()
	os.Exit(code)
}
