//go:build unix

package main

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
)

// dialEvidence returns what a failed connection to addr proves.
func dialEvidence(err error, addr netip.AddrPort) evidence {
	switch {
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ENOBUFS), errors.Is(err, syscall.ENOMEM):
		return evidenceMachine
	case errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.EADDRINUSE), errors.Is(err, syscall.EAGAIN):
		// The kernel returns the same errors if there is no route, or if IPv6 is switched
		// off. To tell these cases apart, a datagram socket is connected. It needs the
		// same source address, but none of TCP's ports.
		probe, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(addr))
		if err != nil {
			return evidenceConnect
		}
		probe.Close()
		return evidencePorts
	}
	return evidenceConnect
}
