//go:build linux && e2e

package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"testing"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/testkit"
)

// These types are the answers of the status page's API, as far as tests read them.

// pageStatus is /api/status.
type pageStatus struct {
	Sessions    int   `json:"sessions"`
	Upgrades    int   `json:"upgrades"`
	LastUpgrade int64 `json:"last_upgrade"`
	PauseMS     int64 `json:"pause_ms"`
}

// pageMiner is a miner in /api/search.
type pageMiner struct {
	Session   string `json:"session"`
	Address   string `json:"address"`
	Agent     string `json:"user_agent"`
	Since     int64  `json:"since"`
	Accepted  uint32 `json:"accepted"`
	LastShare int64  `json:"last_share"`
}

// pageAccounts is /api/accounts.
type pageAccounts struct {
	Accounts []struct {
		Account    string         `json:"account"`
		Mining     map[string]int `json:"mining"`
		LastSwitch int64          `json:"last_switch"`
	} `json:"accounts"`
}

// pageEvent is an event in /api/events.
type pageEvent struct {
	What  string `json:"what"`
	First int64  `json:"first"`
	Last  int64  `json:"last"`
}

// getJSON waits for the HTTP listener, which is the last to start at an upgrade.
func getJSON(t *testing.T, url string, reply any) {
	t.Helper()
	var r *http.Response
	testkit.WaitUntil(t, url, func() (ok bool) {
		var err error
		r, err = http.Get(url)
		return err == nil
	})
	defer r.Body.Close()
	testkit.Must(t, json.NewDecoder(r.Body).Decode(reply))
}

func textOf(t *testing.T, url string) string {
	t.Helper()
	r, err := http.Get(url)
	testkit.Must(t, err)
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	testkit.Must(t, err)
	return string(text)
}
