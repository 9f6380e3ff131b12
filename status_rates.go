package main

import (
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/hashrate"
)

// This file writes hashrates as JSON. An unknown hashrate is null and not 0.

// rateReply is a hashrate in hashes per second.
type rateReply struct {
	Rate    *float64 `json:"rate"`               // null if it is not known
	AtLeast bool     `json:"at_least,omitempty"` // shares of unknown difficulty are not included
}

func rateReplyOf(r hashrate.Rate) (reply rateReply) {
	if perSecond, known := r.Value(); known {
		reply.Rate = &perSecond
	}
	reply.AtLeast = r.Knowledge == hashrate.PartlyKnown
	return reply
}

// rateReplies returns the hashrates by window.
func rateReplies(r rates) map[string]rateReply {
	replies := make(map[string]rateReply, len(r))
	for w, rate := range r {
		replies[hashrate.Window(w).String()] = rateReplyOf(rate)
	}
	return replies
}

// refusalsOf returns the refused shares by the names of their reasons.
func refusalsOf[N uint32 | uint64](counts [hashrate.Refusals]N) map[string]N {
	named := make(map[string]N, len(counts))
	for why, n := range counts {
		named[hashrate.Refusal(why).String()] = n
	}
	return named
}
