package coins

import (
	"encoding/json"
	"path"
	"strings"
	"testing"
	"unicode"
)

// FuzzZooKeeperValue checks that any content of a node is understood as a valid
// coin, as a valid sub-account, or as nothing.
func FuzzZooKeeperValue(f *testing.F) {
	for _, seed := range []string{"", "btc", " btc\n", "b\x00c", "\xff", "../x", "a/b", ".", strings.Repeat("x", 200), "\u009b2J",
		`{"ChainType":"bitcoin","Coins":["btc"],"IPs":["192.0.2.2"],"HostName":"vm","ListenAddr":"127.0.0.1:18080"}`, `{"HostName":1}`, "\ufffd", "\U0001f600"} {
		f.Add([]byte(seed))
	}
	const dir = "/stratumSwitcher/btcbcc/"
	f.Fuzz(func(t *testing.T, value []byte) {
		if coin, err := parseCoin(value); err == nil &&
			(len(coin) > MaxCoin || strings.ContainsFunc(coin, unicode.IsControl) || strings.TrimSpace(coin) != coin) {
			t.Fatalf("%q is taken for a coin", coin)
		}
		c := &idClaimer{hostName: "vm"}
		if c.formerlyOurs(zkNode{Value: value, Owner: 1}, 0, false) && !json.Valid(value) || c.formerlyOurs(zkNode{Value: value, Owner: 1}, 2, false) {
			t.Fatalf("%q is taken for our own", value)
		}
		name := strings.TrimSpace(string(value))
		if !ValidSubAccount(name) {
			return
		}
		if node := dir + name; path.Clean(node) != node || path.Dir(node)+"/" != dir || len(name) > MaxName {
			t.Fatalf("sub-account %q leads to node %s in another directory", name, path.Clean(node))
		}
	})
}
