// Package stratumtest simulates pools, miners and agents for tests, the demo
// and the benchmarks of the switcher.
//
// The simulated sides are strict. A Pool recomputes the proof of work of each share
// from the extranonce that it got in mining.subscribe. A Miner lists everything in
// a conversation that a real device could not handle. A proxy that mixes up jobs,
// extranonces, version masks, difficulties or answers cannot hide that from both of
// them.
//
// LeanPool and LeanFleet are for load: they check less, and take less processor
// time than what is tested with them.
//
// The daemon does not import this package.
package stratumtest
