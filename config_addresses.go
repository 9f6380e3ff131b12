package main

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/strictjson"
)

// checkOwnAddresses refuses pools that are this switcher itself, and an HTTP
// listener at the miners' port. Neither can ever work.
func (c *Config) checkOwnAddresses(p *configProblems) {
	own, ok := parseListenAddress(c.ListenAddr)
	if !ok || own.port == "0" {
		return
	}
	if c.EnableHTTPDebug {
		if http, ok := parseListenAddress(c.HTTPDebugListenAddr); ok && http.overlaps(own) {
			p.add("HTTPDebugListenAddr", fmt.Sprintf("is %q, where miners connect (ListenAddr is %q), must have another port or address",
				strictjson.Shorten(c.HTTPDebugListenAddr), strictjson.Shorten(c.ListenAddr)))
		}
	}
	for _, coin := range slices.Sorted(maps.Keys(c.StratumServerMap)) {
		pool := c.StratumServerMap[coin]
		key := joinKey("StratumServerMap", coin)
		if own.reachedBy(pool.URL) {
			p.add(key+".URL", c.ownAddressProblem(pool.URL))
		}
		for i, backup := range pool.BackupURLs {
			if own.reachedBy(backup) {
				p.add(fmt.Sprintf("%s.BackupURLs[%d]", key, i), c.ownAddressProblem(backup))
			}
		}
	}
}

func (c *Config) ownAddressProblem(url string) string {
	return fmt.Sprintf("is %q, where this switcher itself listens (ListenAddr is %q), must be a pool's address", strictjson.Shorten(url), strictjson.Shorten(c.ListenAddr))
}

// listenAddress is an address to listen at.
type listenAddress struct {
	host string // as written, in lower case
	ip   netip.Addr
	port string // without leading zeros
	all  bool   // addresses of this machine: of both families, or IPv4 only for 0.0.0.0
}

// listenNetwork is the network to listen on. An IPv4 address, including
// 0.0.0.0, means IPv4 only; [::] or no address means both families.
func listenNetwork(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return "tcp"
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.Is4() {
		return "tcp4"
	}
	return "tcp"
}

// only4 reports whether the address stands for all of IPv4 and nothing else.
func (a listenAddress) only4() bool { return a.all && a.ip.Is4() }

// parseListenAddress parses an address to listen at or to connect to.
func parseListenAddress(addr string) (a listenAddress, ok bool) {
	if checkHostPort(addr, true) != nil {
		return a, false
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return a, false
	}
	a.host = strings.TrimSuffix(strings.ToLower(host), ".")
	if a.port = strings.TrimLeft(port, "0"); a.port == "" {
		a.port = "0"
	}
	if a.host == "localhost" || strings.HasSuffix(a.host, ".localhost") {
		a.host = "127.0.0.1"
	}
	if ip, err := netip.ParseAddr(a.host); err == nil {
		a.ip = ip.Unmap()
	}
	a.all = host == "" || a.ip.IsValid() && a.ip.IsUnspecified()
	return a, true
}

// overlaps reports whether two addresses cannot be listened at at the same
// time.
func (a listenAddress) overlaps(b listenAddress) bool {
	if a.port == "0" || a.port != b.port {
		return false
	}
	if a.ip.Is4() && b.ip.Is6() || a.ip.Is6() && b.ip.Is4() {
		// [::] is for both families.
		return a.all && a.ip.Is6() || b.all && b.ip.Is6()
	}
	return a.all || b.all || a.sameHost(b)
}

func (a listenAddress) sameHost(b listenAddress) bool {
	if a.ip.IsValid() && b.ip.IsValid() {
		return a.ip == b.ip
	}
	return a.host == b.host
}

// reachedBy reports whether a connection to a pool's URL ends at this address.
// Names other than localhost are not looked up.
func (a listenAddress) reachedBy(url string) bool {
	to, ok := parseListenAddress(trimScheme(url))
	if !ok || to.port != a.port {
		return false
	}
	if to.all {
		// A connection to an unspecified address goes to loopback.
		to.ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		if strings.Contains(to.host, ":") {
			to.ip = netip.IPv6Loopback()
		}
	}
	if a.only4() && to.ip.IsValid() && !to.ip.Is4() {
		return false
	}
	if a.all {
		return to.ip.IsValid() && isOwnAddress(to.ip)
	}
	return a.sameHost(to)
}

// isOwnAddress reports whether an address is this machine's.
func isOwnAddress(ip netip.Addr) bool {
	if ip.IsLoopback() {
		return true
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return false // if the addresses are unknown, do not report a mistake
	}
	for _, addr := range addrs {
		if n, ok := addr.(*net.IPNet); ok {
			if own, ok := netip.AddrFromSlice(n.IP); ok && own.Unmap() == ip.WithZone("") {
				return true
			}
		}
	}
	return false
}
