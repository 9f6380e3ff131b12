//go:build !linux || portable_relay

package main

const tlsSupported = false
