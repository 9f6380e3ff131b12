//go:build !linux || portable_relay

package main

import (
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/relay"
	"github.com/BobZombiE69/btcpool-go-modules/stratumSwitcher/internal/tunnel"
)

// TLS connections exist on Linux only. Elsewhere the configuration refuses the
// keys for TLS (tlsSupported), so these functions are never called.

type tunnels struct{}

// tunnelEnd is an end of a connection that a tunnel process holds.
type tunnelEnd struct{}

func newTunnels(*sessionManager) (*tunnels, error) { return &tunnels{}, nil }

func tunnelProgram() string { return version }

func (*tunnels) prepare() (*tunnel.Pair, error) { return nil, tunnel.ErrUnsupported }

func (*tunnels) certificate() (c tunnel.Certificate, known bool) { return c, false }

func (*tunnels) processes() []tunnel.Process { return nil }

func (*tunnels) counts() tunnelCounts { return tunnelCounts{} }

func (*tunnels) close() {}

func (*sessionLoop) carryEnds() {}

func (*sessionLoop) tlsVersion(*relay.Socket) uint16 { return 0 }

func (s *Session) secure([]byte) { s.close(tunnel.ErrUnsupported.Error()) }

func (s *Session) endingAwaited(*relay.Socket, error) bool { return false }

func (d *poolDial) secure(int) error { return tunnel.ErrUnsupported }
