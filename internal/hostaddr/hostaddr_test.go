package hostaddr

import (
	"net/netip"
	"testing"
)

func TestConnectionLimitKey(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.1":             "192.0.2.1",
		"::ffff:192.0.2.1":      "192.0.2.1",
		"2001:db8::1":           "2001:db8::",
		"2001:db8:0:0:ffff::1":  "2001:db8::",
		"2001:db8:0:1::1":       "2001:db8:0:1::",
		"fe80::1%eth0":          "fe80::",
		"fe80::2":               "fe80::",
		"2001:db8::192.0.2.255": "2001:db8::",
	} {
		if got := Key(netip.MustParseAddr(addr)).String(); got != want {
			t.Errorf("%s counts as %s, want %s", addr, got, want)
		}
	}
	if key := Key(netip.Addr{}); key.IsValid() {
		t.Errorf("an invalid address counts as %s", key)
	}
}
