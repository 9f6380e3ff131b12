package main

import (
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// A pool's URL is host:port, with an optional scheme before it. Inside the program, a URL
// begins with tlsScheme if the connection uses TLS, and has no scheme otherwise.
const (
	plainScheme = "stratum+tcp://"
	tlsScheme   = "stratum+ssl://"
	tlsAlias    = "stratum+tls://" // means the same as tlsScheme
)

// splitPoolURL returns the host:port of a pool's URL, and whether its scheme asks for TLS.
func splitPoolURL(url string) (hostPort string, tls bool) {
	for _, scheme := range []string{plainScheme, tlsScheme, tlsAlias} {
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
