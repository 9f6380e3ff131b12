//go:build linux && !portable_relay

package main

// looksAhead says which requests behind mining.authorize are seen: those in the
// same packet, and those in a packet of their own.
var looksAhead = []bool{true, false}
