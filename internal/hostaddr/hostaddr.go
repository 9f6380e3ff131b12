// Package hostaddr decides which addresses count as one host, for limits and for
// fair shares.
package hostaddr

import "net/netip"

// Key returns the same value for all addresses of one host: an IPv4 address, even if it
// is written as IPv6, or the /64 network of an IPv6 address, because a host usually has
// a whole /64 and could use another address for every connection. The key of an invalid
// address is that address.
func Key(addr netip.Addr) netip.Addr {
	if addr = addr.Unmap(); addr.Is4() {
		return addr
	}
	network, err := addr.Prefix(64) // drops the zone
	if err != nil {
		return addr
	}
	return network.Addr()
}
