//go:build linux && !portable_relay

package main

// tlsSupported is true on systems that can pass connections to another process, which TLS
// needs.
const tlsSupported = true
