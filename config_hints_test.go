package main

import (
	"strings"
	"testing"
)

func TestNearestKey(t *testing.T) {
	var known []string
	for _, k := range configKeys {
		known = append(known, k.name)
	}
	for key, want := range map[string]string{
		"ListenAdress":                "ListenAddr",
		"zkbrokers":                   "ZKBroker",
		"MaxSesions":                  "MaxSessions",
		"DrainSecond":                 "DrainSeconds",
		"HTTPDebug":                   "EnableHTTPDebug",
		"Coins":                       "",
		"x":                           "",
		"":                            "",
		strings.Repeat("ZKBroker", 9): "",
	} {
		if got := nearestKey(key, known); got != want {
			t.Errorf("the key nearest to %q is %q, want %q", key, got, want)
		}
	}
}
