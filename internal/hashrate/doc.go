// Package hashrate knows what shares are worth: which difficulty each was made
// for, how much work miners have done by that, and why pools refuse shares.
//
// It holds values, arithmetic and small state machines, and knows nothing of
// sessions, sockets or lines. Those who use it find the values in the lines.
//
//   - [Difficulty] is what a share stands for; [ParseDifficulty], [FromTarget],
//     [FromEthereumTarget] and [ReadAgentDifficulty] read what pools say of it.
//   - [Link] remembers for one pool link which job was given with which
//     difficulty; [AgentMiners] does the same for the miners behind an agent.
//   - [Miner] counts the shares of one session, [Counter] those of a coin's pool
//     address or a sub-account, [Averages] makes hashrates of a Counter.
//   - [RefusalOf] tells why a pool refused a share.
//   - [Rate] and [Format] write hashrates for people.
//
// Link, AgentMiners and Miner belong to the goroutine of their session. Any
// goroutine may use a Counter. An Averages belongs to the one that advances it.
//
// None of what happens at each share allocates.
package hashrate
