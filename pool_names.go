package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
)

// namesAtOnce is how many of the pools' names are looked up at a time at start.
const namesAtOnce = 8

// lookupIPs asks the resolver for a pool's IPs and returns at most maxPoolIPs.
func lookupIPs(ctx context.Context, host string) ([]netip.Addr, error) {
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("%s has no address", host)
	}
	return found[:min(len(found), maxPoolIPs)], err
}

// warnOfUnknownNames warns of each pool whose name cannot be looked up now. In most
// cases the name is mistyped, and without the warning the first miner would find out.
// The results are neither kept nor held against the pools, because a name server may
// start after the switcher.
func warnOfUnknownNames(pools map[string]*pool, lookup func(ctx context.Context, host string) ([]netip.Addr, error), warn func(format string, args ...any)) {
	users := make(map[*poolAddress][]string)
	for _, p := range pools {
		for _, a := range p.addresses {
			if a.named && !slices.Contains(users[a], p.coin) {
				users[a] = append(users[a], p.coin)
			}
		}
	}
	addresses := make([]*poolAddress, 0, len(users))
	for a, coins := range users {
		slices.Sort(coins)
		addresses = append(addresses, a)
	}
	slices.SortFunc(addresses, func(a, b *poolAddress) int { return cmp.Compare(a.text, b.text) })
	turns := make(chan struct{}, namesAtOnce)
	var asking sync.WaitGroup
	for _, a := range addresses {
		turns <- struct{}{}
		asking.Go(func() {
			defer func() { <-turns }()
			ctx, cancel := context.WithTimeout(context.Background(), resolveTimeout)
			defer cancel()
			if _, err := lookup(ctx, a.host); err != nil {
				warn("pool name not found at start pool=%s coins=%s: %s", a.text, strings.Join(users[a], ","), lookupProblem(err))
			}
		})
	}
	asking.Wait()
}

// lookupProblem describes why a name could not be looked up.
func lookupProblem(err error) string {
	e, ok := errors.AsType[*net.DNSError](err)
	switch {
	case ok && e.IsNotFound:
		return "this name does not exist (" + e.Err + ")"
	case ok && e.IsTimeout, errors.Is(err, context.DeadlineExceeded):
		return "the name server does not answer"
	case ok:
		return "the look-up failed: " + e.Err
	}
	return err.Error()
}
