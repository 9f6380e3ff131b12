package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// checkHostPort checks an address to listen at or to connect to. Only an
// address to listen at may omit the host or have port 0.
func checkHostPort(addr string, listen bool) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		if e, ok := errors.AsType[*net.AddrError](err); ok {
			return errors.New(e.Err)
		}
		return err
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 && !listen {
		return fmt.Errorf("bad port %q", port)
	}
	switch {
	case host == "" && listen:
		return nil
	case host == "":
		return errors.New("no host")
	case !isHost(host):
		return fmt.Errorf("bad host %q", host)
	}
	return nil
}

// isHost reports whether a text is an IP address or a host name. Underscores
// are not allowed in host names but common in those of containers.
func isHost(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	labels := strings.Split(strings.TrimSuffix(host, "."), ".")
	for _, label := range labels {
		bad := strings.ContainsFunc(label, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
		})
		if label == "" || len(label) > 63 || bad {
			return false
		}
	}
	// 10.0.0.256 and 10.0.0 are mistyped addresses, not names.
	_, err := strconv.ParseUint(labels[len(labels)-1], 10, 64)
	return err != nil && len(host) <= 253
}

// brokerAddr adds the default port, because the ZooKeeper client has always
// allowed it to be left out.
func brokerAddr(broker string) string {
	if broker == "" || strings.Contains(broker, ":") {
		return broker
	}
	return broker + ":2181"
}

// clashesWithListenAddr reports whether addr and ListenAddr cannot be listened at
// at the same time.
func (c *Config) clashesWithListenAddr(addr string) bool {
	miners, ok := parseListenAddress(c.ListenAddr)
	other, ok2 := parseListenAddress(addr)
	return ok && ok2 && other.overlaps(miners)
}

// leadsBackHere reports whether a connection to addr ends at
// ListenAddr. A pool at such an address would be this switcher itself.
func (c *Config) leadsBackHere(addr string) bool {
	miners, ok := parseListenAddress(c.ListenAddr)
	return ok && miners.port != "0" && miners.reachedBy(addr)
}

// listenAddress is an address to listen at.
type listenAddress struct {
	host string // as written, in lower case
	ip   netip.Addr
	port string // without leading zeros
	all  bool   // all addresses of this machine: of both families, or only IPv4 for 0.0.0.0
}

// listenNetwork returns the network to listen on. An IPv4 address, including 0.0.0.0, means
// IPv4 only; [::] or no host means both families.
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

// only4 reports whether the address means all IPv4 addresses of this machine.
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

// reachedBy reports whether a connection to addr ends at this address. Names
// other than localhost are not looked up.
func (a listenAddress) reachedBy(addr string) bool {
	to, ok := parseListenAddress(addr)
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
