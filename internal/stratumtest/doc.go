// Package stratumtest simulates pools, miners and agents for tests, the demo
// and the benchmarks of the switcher.
//
// The simulated programs are strict. A Pool recomputes the proof of work of each share
// from the connection's extranonce. A Miner records every message that a real device could
// not handle. If a proxy mixes up jobs, extranonces, version masks, difficulties or answers,
// at least one side notices.
//
// LeanPool and LeanFleet generate load. They check less, and use less processor time than
// the program under test.
//
// The daemon does not import this package.
package stratumtest
