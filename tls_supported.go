//go:build linux && !portable_relay

package main

// tlsSupported says whether this system can pass connections to another process.
const tlsSupported = true
