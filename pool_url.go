package main

import (
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// A pool's URL is host:port with an optional scheme before it. Inside the program, it
// has tlsScheme if the pool uses TLS there and no scheme otherwise.
const (
	plainScheme = "stratum+tcp://"
	tlsScheme   = "stratum+ssl://"
	tlsScheme2  = "stratum+tls://"
)

// splitPoolURL returns the host:port of a pool's URL, and whether it is for TLS.
func splitPoolURL(url string) (hostPort string, tls bool) {
	for _, scheme := range []string{plainScheme, tlsScheme, tlsScheme2} {
		if stratum.HasPrefixFold(url, scheme) {
			return url[len(scheme):], scheme != plainScheme
		}
	}
	return url, false
}

func isTLS(url string) bool {
	_, tls := splitPoolURL(url)
	return tls
}

// normalPoolURL returns the form that the program uses for a URL.
func normalPoolURL(url string) string {
	hostPort, tls := splitPoolURL(url)
	if tls {
		return tlsScheme + hostPort
	}
	return hostPort
}
