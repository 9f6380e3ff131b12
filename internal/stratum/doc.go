// Package stratum reads and writes the lines of the Stratum mining protocol and
// the binary messages that agents send besides. It knows what a line means, and
// nothing of sessions, pools or connections.
//
// There are two ways to read a line:
//
//   - ScanMinerLine, ScanPoolLine and what builds on them go over the bytes of
//     a line once and find where its members are. They are used for every line
//     that is relayed, and they allocate nothing.
//   - ParseRequest, ParseResponse and CanonicalLine decode a line. They are for
//     handshakes and for odd lines, which two readers may understand
//     differently. They allocate, and their results share no memory with the
//     line.
//
// If the scanner reports a line as whole and not odd, any JSON decoder finds the
// same members in it. CanonicalLine converts every other line that has a meaning
// to a form for which this is true as well.
//
// This package promises the following:
//
//   - Every function accepts any bytes. Peers are hostile: no input causes a
//     panic, results are at most a small multiple of the input, and the depth of
//     recursion is limited.
//   - The caller owns the bytes that it passes. A function that returns a part of
//     a line, or its position, refers to the caller's bytes. The result is valid
//     while these are unchanged. Nothing keeps a reference to a line.
//   - Functions named Append append to the caller's buffer and allocate only to
//     enlarge it. Other functions that change a line return a copy. Only PutJobID
//     and CutVersionBits write to the line they are given: they reuse its memory.
//   - JobTable and RequestQueue keep their content in one piece of memory and
//     reuse it, so that adding a job or a share allocates nothing. OwnRequests
//     allocates only for the switcher's own requests and for a miner's request
//     that has the id of one of these.
//
// There is no shared state and no goroutine. Functions may be called from any
// goroutine. A JobTable, JobSet, RequestQueue or OwnRequests belongs to its
// session's loop and has no lock.
package stratum
