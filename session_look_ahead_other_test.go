//go:build !linux || portable_relay

package main

// looksAhead says which requests behind mining.authorize are seen: those in the
// same packet.
var looksAhead = []bool{true}
