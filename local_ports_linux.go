package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// localPorts returns how many local ports the kernel may give to connections to one
// address: net.ipv4.ip_local_port_range less ip_local_reserved_ports, which also hold for
// IPv6. It returns 0 if the number is not known.
func localPorts() int {
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return 0
	}
	var first, last int
	if _, err := fmt.Sscan(string(b), &first, &last); err != nil || last < first {
		return 0
	}
	n := last - first + 1
	b, _ = os.ReadFile("/proc/sys/net/ipv4/ip_local_reserved_ports")
	for _, part := range strings.Split(strings.TrimSpace(string(b)), ",") {
		from, to, isRange := strings.Cut(part, "-")
		low, err := strconv.Atoi(from)
		if err != nil {
			continue
		}
		high := low
		if isRange {
			if high, err = strconv.Atoi(to); err != nil {
				continue
			}
		}
		n -= max(0, min(high, last)-max(low, first)+1)
	}
	return n
}
