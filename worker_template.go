package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// checkWorkerTemplate returns what is wrong with a coin's Worker, or nil. An empty
// string means that there is no template.
func checkWorkerTemplate(template string) error {
	rest := template
	for {
		open := strings.IndexAny(rest, "{}")
		if open < 0 {
			break
		}
		end := strings.IndexByte(rest, '}')
		if rest[open] == '}' || end < 0 {
			return errors.New("braces do not match")
		}
		switch name := rest[open : end+1]; name {
		case "{account}", "{miner}", "{suffix}":
		default:
			return fmt.Errorf("%s is unknown", name)
		}
		rest = rest[end+1:]
	}
	for _, r := range template {
		if r < ' ' || r == 0x7f {
			return errors.New("control character")
		}
	}
	return nil
}

// workerFor returns a worker's name at the pool. It is the miner's name for it,
// unless the pool has a template or needs its suffix. A pool that picks the
// extranonce gets the name as the miner wrote it, also within a template.
func (p *pool) workerFor(name stratum.WorkerName, suffixed bool) string {
	if p.picksExtranonce {
		name = stratum.SplitWorker(name.AsSent())
	}
	switch {
	case p.worker != "":
		return strings.NewReplacer(
			"{account}", name.Account,
			"{miner}", strings.TrimPrefix(name.Miner, "."),
			"{suffix}", p.suffix,
		).Replace(p.worker)
	case suffixed:
		return name.WithSuffix(p.suffix)
	}
	return name.String()
}

// canName reports whether the pool can be sent a worker's name. A pool that picks the
// extranonce needs the name exactly as the miner wrote it.
func (p *pool) canName(name stratum.WorkerName) bool { return !p.picksExtranonce || name.Sendable() }

// passwordFor returns the parameters after the worker's name.
func (p *pool) passwordFor(rest [][]byte) [][]byte {
	if p.password == "" {
		return rest
	}
	out := [][]byte{stratum.Quote(p.password)}
	if len(rest) > 1 {
		out = append(out, rest[1:]...)
	}
	return out
}

// renames reports whether workers have other names at this pool than the switcher's: from
// a template, or as the miner wrote them. The suffix is not tried at such a pool.
func (p *pool) renames() bool { return p.worker != "" || p.picksExtranonce }
