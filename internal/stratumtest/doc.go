// Package stratumtest simulates pools, miners and agents for tests, the demo
// and the benchmarks of the switcher.
//
// The simulated sides are strict: a Pool recomputes the proof of work of each
// share from the extranonce it was told in mining.subscribe, and a Miner keeps
// a list of everything in a conversation that a real device would trip over.
// A proxy that mixes up jobs, extranonces, version masks, difficulties or
// answers cannot hide it from the two of them.
//
// LeanPool and LeanFleet are for load: they check less, and cost less than what
// is tested with them.
//
// The daemon does not import this package.
package stratumtest
