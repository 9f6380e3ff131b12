//go:build linux && e2e

package e2e

import (
	"fmt"
	"os"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// TestMain runs the tests in the root of the repository, because they name its
// files.
func TestMain(m *testing.M) {
	if err := os.Chdir(".."); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	testkit.Cleanup()
	os.Exit(code)
}
