//go:build !unix

package main

import "net/netip"

// dialEvidence returns what a failed connection to addr proves.
func dialEvidence(error, netip.AddrPort) evidence { return evidenceConnect }
