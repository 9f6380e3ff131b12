// Package stratumtest simulates pools, miners and agents for tests, the demo
// and the benchmarks of the switcher.
//
// The simulated programs are strict. A Pool recomputes the proof of work of each share
// from the extranonce that it got in mining.subscribe. A Miner records everything that
// it receives and that a real device could not handle. If a proxy mixes up jobs,
// extranonces, version masks, difficulties or answers, at least one of them notices.
//
// LeanPool and LeanFleet are for load. They check less, and use less processor time than
// the program that is tested with them.
//
// The daemon does not import this package.
package stratumtest
