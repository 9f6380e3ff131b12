//go:build !unix

package main

import "net/netip"

// dialEvidence says what it proves that addr could not be connected to.
func dialEvidence(error, netip.AddrPort) evidence { return evidenceConnect }
