package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// The number of sessions is limited by the descriptors, by MaxSessions and by how many
// connections to pools are possible. Each connection to the same IP and port needs its
// own local port.

// sessionsMax returns how many sessions there may be now.
func (m *sessionManager) sessionsMax() int {
	if ports := int(m.portsToPools.Load()); ports > 0 {
		return min(m.maxSessions, ports)
	}
	return m.maxSessions
}

// measurePorts updates portsToPools.
func (m *sessionManager) measurePorts() {
	all := make(map[*endpoint]struct{})
	known := true
	for _, p := range m.pools {
		for _, a := range p.addresses {
			ips, _ := a.current()
			known = known && len(ips) > 0
			for _, e := range ips {
				all[e] = struct{}{}
			}
		}
	}
	if !known { // a name that was not looked up may have any number of IPs
		m.portsToPools.Store(0)
		return
	}
	m.portsToPools.Store(int64(localPorts() * len(all)))
}

// localPorts returns how many connections to the pool's addresses the local ports
// allow, or 0 if that is not known. A name that was not looked up counts as one IP.
func (p *pool) localPorts() int {
	all := make(map[*endpoint]struct{})
	names := 0
	for _, a := range p.addresses {
		ips, _ := a.current()
		if len(ips) == 0 {
			names++
		}
		for _, e := range ips {
			all[e] = struct{}{}
		}
	}
	return localPorts() * (len(all) + names)
}

// portShortages returns the coins for which the local ports allow fewer connections
// than there may be sessions, with their numbers.
func portShortages(pools map[string]*pool, sessions int) map[string]int {
	short := make(map[string]int)
	for coin, p := range pools {
		if n := p.localPorts(); n > 0 && n < sessions {
			short[coin] = n
		}
	}
	return short
}

// shortageText returns the end of the log line "listening". It is empty if there are
// enough ports.
func shortageText(short map[string]int) string {
	if len(short) == 0 {
		return ""
	}
	var parts []string
	for _, coin := range slices.Sorted(maps.Keys(short)) {
		parts = append(parts, fmt.Sprintf("%s:%d", coin, short[coin]))
	}
	return " local_ports_short=" + strings.Join(parts, ",")
}

// portWarnings returns a warning for each coin that is short of local ports, with
// advice.
func portWarnings(pools map[string]*pool, sessions int) []string {
	short := portShortages(pools, sessions)
	var lines []string
	for _, coin := range slices.Sorted(maps.Keys(short)) {
		lines = append(lines, fmt.Sprintf("coin %q: the local port range allows %d connections to its %d addresses, fewer than sessions_max, %d: widen net.ipv4.ip_local_port_range or add addresses",
			coin, short[coin], len(pools[coin].addresses), sessions))
	}
	return lines
}

// sessionLimit returns how many sessions the descriptor limit and MaxSessions allow. The
// result is less than 1 if there is no room for any. A tunnel process has the same limit
// of descriptors and needs two for each connection with TLS.
func sessionLimit(c *Config, descriptors int) int {
	n := (descriptors - fdReserve - c.MaxPoolDials) / 2
	if sides := c.tlsSides(); sides > 0 {
		n = min(n, (descriptors-fdReserve-2*c.MaxPoolDials)/(2*sides))
	}
	if c.MaxSessions > 0 {
		n = min(n, c.MaxSessions)
	}
	return n
}

// tlsSides returns how many of a session's two connections may use TLS.
func (c *Config) tlsSides() int {
	sides := 0
	if c.TLSCertFile != "" {
		sides++
	}
	for _, server := range c.StratumServerMap {
		if slices.ContainsFunc(server.urls(), isTLS) {
			return sides + 1
		}
	}
	return sides
}

// sessionRoom returns how many sessions are possible with a limit of descriptors. It
// returns an error if none is.
func sessionRoom(c *Config, limit int) (int, error) {
	room := sessionLimit(c, limit)
	if room < 1 {
		return 0, fmt.Errorf("the limit of %d file descriptors leaves no room for sessions beside MaxPoolDials, %d", limit, c.MaxPoolDials)
	}
	return room, nil
}
