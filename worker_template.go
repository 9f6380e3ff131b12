package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/stratum"
)

// checkWorkerTemplate says what is wrong with a coin's Worker. An empty one is
// none.
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

// workerFor is a worker's name at the pool. It is the name by which the miner
// knows it, unless the pool has a template or needs its suffix. A pool that picks
// its own extranonce gets it as the miner wrote it, in templates too.
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

// passwordFor gives the parameters after the worker's name.
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

// renames says whether shares have to carry the name that was authorized, which
// may not be the one the miner sends. Pools built for a switcher take any.
func (p *pool) renames() bool { return p.worker != "" || p.picksExtranonce }
