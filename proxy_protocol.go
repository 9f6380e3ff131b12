package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"

	proxyproto "github.com/pires/go-proxyproto"
)

// A load balancer reports the miner's address with the PROXY protocol, version 1 or 2
// (https://www.haproxy.org/download/1.8/doc/proxy-protocol.txt): it sends a header before
// the miner's first byte. The header is accepted only from TrustedProxies. A connection
// from anybody else that begins with it is treated as one that is not Stratum.

// Sizes are in bytes.
const (
	maxProxyV1 = 107     // with "\r\n"; from the specification, section 2.1
	maxProxyV2 = 4 << 10 // with the optional fields after the addresses
	proxyV2Len = 16      // the part before the addresses; section 2.2
)

var (
	proxyV1Start = []byte("PROXY ")
	proxyV2Start = []byte("\r\n\r\n\x00\r\nQUIT\n")

	errProxyHeader = errors.New("bad PROXY protocol header")
)

// parseNetworks reads TrustedProxies: networks or single addresses.
func parseNetworks(texts []string) ([]netip.Prefix, error) {
	var networks []netip.Prefix
	for _, text := range texts {
		n, err := netip.ParsePrefix(text)
		if err != nil {
			addr, addrErr := netip.ParseAddr(text)
			if addrErr != nil {
				return nil, fmt.Errorf("%q is neither a network nor an address", text)
			}
			n = netip.PrefixFrom(addr, addr.BitLen())
		}
		networks = append(networks, n.Masked())
	}
	return networks, nil
}

// trusts reports whether a peer is a trusted proxy.
func (m *sessionManager) trusts(peer netip.Addr) bool {
	for _, n := range m.proxies {
		if n.Contains(peer.Unmap()) {
			return true
		}
	}
	return false
}

// proxyHeaderSize returns the length of the PROXY header at the beginning of b. It
// returns 0 if there is none, and -1 if more bytes are needed to decide.
func proxyHeaderSize(b []byte) (int, error) {
	switch {
	case bytes.HasPrefix(b, proxyV1Start):
		end := bytes.Index(b, []byte("\r\n"))
		switch {
		case end >= 0 && end+2 <= maxProxyV1:
			return end + 2, nil
		case end >= 0 || len(b) > maxProxyV1:
			return 0, errProxyHeader
		}
		return -1, nil
	case bytes.HasPrefix(b, proxyV2Start):
		if len(b) < proxyV2Len {
			return -1, nil
		}
		size := proxyV2Len + int(b[14])<<8 + int(b[15])
		if size > maxProxyV2 {
			return 0, errProxyHeader
		}
		if len(b) < size {
			return -1, nil
		}
		return size, nil
	case bytes.HasPrefix(proxyV1Start, b), bytes.HasPrefix(proxyV2Start, b):
		return -1, nil
	}
	return 0, nil
}

// parseProxyHeader returns the miner's address. ok is false if the header has none,
// because the proxy itself has made the connection, for instance to check that the
// switcher listens.
func parseProxyHeader(header []byte) (miner netip.AddrPort, ok bool, err error) {
	h, err := proxyproto.Read(bufio.NewReader(bytes.NewReader(header)))
	if err != nil {
		return miner, false, fmt.Errorf("%w: %w", errProxyHeader, err)
	}
	source, isTCP := h.SourceAddr.(*net.TCPAddr)
	if h.Command.IsLocal() || !isTCP {
		return miner, false, nil
	}
	addr := source.AddrPort()
	return netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()), true, nil
}

// takeProxyHeader reads the header of a trusted proxy if b begins with one. It
// returns the length of the header, or -1 if more bytes are needed.
func (s *Session) takeProxyHeader(b []byte) (int, error) {
	size, err := proxyHeaderSize(b)
	if err != nil || size <= 0 {
		return size, err
	}
	miner, ok, err := parseProxyHeader(b[:size])
	if err != nil {
		return 0, err
	}
	if ok {
		s.addr = miner
		if !s.manager.admitProxied(s) {
			s.close("too many sessions of this address")
		}
	}
	return size, nil
}
