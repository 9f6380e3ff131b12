//go:build unix

package main

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
)

// dialEvidence says what it proves that addr could not be connected to.
func dialEvidence(err error, addr netip.AddrPort) evidence {
	switch {
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE), errors.Is(err, syscall.ENOBUFS), errors.Is(err, syscall.ENOMEM):
		return evidenceMachine
	case errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.EADDRINUSE), errors.Is(err, syscall.EAGAIN):
		// Without a route, or with IPv6 switched off, the kernel says so too. A
		// datagram socket needs the same source address but none of TCP's ports.
		probe, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(addr))
		if err != nil {
			return evidenceConnect
		}
		probe.Close()
		return evidencePorts
	}
	return evidenceConnect
}
