package main

import "github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/relay"

// sessionLimits is what the relay's loops hold for a session's sockets.
var sessionLimits = relay.Limits{Kept: maxPoolLine, Bulk: maxRegistered}

// sessionLoop is a loop with what its sessions share. Its fields belong to the
// loop's goroutine.
type sessionLoop struct {
	*relay.Loop

	// fromMiners and fromPools count the bytes that sessions took from either side.
	fromMiners, fromPools uint64

	scratch []byte // for lines that sessions put together; the socket does not keep them
}

func newSessionLoop() (*sessionLoop, error) {
	l, err := relay.NewLoop(sessionLimits)
	if err != nil {
		return nil, err
	}
	return &sessionLoop{Loop: l}, nil
}
