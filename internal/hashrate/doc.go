// Package hashrate computes what shares are worth: which difficulty a share has,
// how much work miners have done, and why pools refuse shares.
//
// It contains values, arithmetic and small state machines, and knows nothing of
// sessions, sockets or lines. Its callers find the values in the lines.
//
//   - [Difficulty] is the expected work of a share. [ParseDifficulty],
//     [FromTarget], [FromEthereumTarget] and [ReadAgentDifficulty] read the forms
//     in which pools send it.
//   - [Link] remembers which jobs of one pool link have which difficulty.
//     [AgentMiners] does the same for the miners behind an agent.
//   - [Miner] counts the shares of one session, and [Counter] those of a coin's
//     pool address or of a sub-account. [Averages] computes hashrates from a
//     Counter.
//   - [RefusalOf] returns why a pool refused a share.
//   - [Rate] and [Format] write hashrates for people.
//
// Link, AgentMiners and Miner belong to the goroutine of their session. Any
// goroutine may use a Counter. An Averages belongs to the goroutine that advances
// it.
//
// Nothing that is called for each share allocates memory.
package hashrate
