// Package stratum reads and writes the lines of the Stratum mining protocol,
// and the binary messages that agents send beside them. It knows what a line
// says, and nothing of sessions, pools or connections.
//
// There are two ways to read a line:
//
//   - ScanMinerLine, ScanPoolLine and what builds on them go over the bytes of
//     a line once and say where its members are. They are for every line that
//     is relayed. They allocate nothing.
//   - ParseRequest, ParseResponse and CanonicalLine decode a line. They are for
//     handshakes and for odd lines, which two readers may understand in
//     different ways. They allocate, and their results share no memory with
//     the line.
//
// A line that the scanner reports as whole and not odd is read alike by the
// scanner and by any JSON decoder. CanonicalLine gives every other line that
// has a meaning a form of which the same is true.
//
// What this package promises:
//
//   - Every function takes any bytes. Peers are hostile: nothing here panics
//     on what they send, results are at most a small multiple of the input, and
//     recursion has a limited depth.
//   - The caller owns the bytes it passes. A function that returns a Span, or a
//     part of a line, returns a place in the caller's bytes, which is valid as
//     long as they are unchanged. Nothing keeps a reference to a line.
//   - Lines are changed by functions named Append, which append to the
//     caller's buffer and allocate only to enlarge it, and by functions that
//     return a copy. The line passed is never written to, with two exceptions:
//     PutJobID and CutVersionBits reuse the memory of the line they are given.
//   - JobTable and RequestQueue keep their content in one piece of memory and
//     reuse it, so that noting a job or a share allocates nothing. OwnRequests
//     allocates only for requests of the switcher itself, and for a miner's
//     request that has the id of such a one.
//
// There is no shared state and no goroutine. Functions may be called from any
// goroutine. A JobTable, JobSet, RequestQueue or OwnRequests belongs to its
// session's loop and has no lock.
package stratum
