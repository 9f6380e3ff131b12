// Package coins knows which coin each sub-account mines and reports when that
// changes. A Source gets the answers from ZooKeeper (NewZooKeeper) or from a JSON
// file (NewFile, and ResumeFile for a process that takes over miners). Nothing here
// knows of sessions, pools or the configuration file.
//
// # What a source promises
//
//   - Every Query is answered exactly once unless it is cancelled, and never after
//     Cancel has returned, except by a Reply that is already running.
//   - From a successful reply until the last matching Release, each change of the
//     account's coin is reported to the Sink.
//   - While ZooKeeper is unavailable or the file is invalid, queries are answered with
//     the coins last known.
//   - No input (miners' names, the contents of nodes, the bytes of a broker, the file)
//     can end the process, use unbounded memory or flood the log.
//
// # Goroutines
//
// A source has one goroutine that owns its state. That goroutine alone calls Reply
// and the methods of the Sink, in order, so an event that follows a reply is newer
// than the reply. There are two exceptions, which concern a source that is closed: a
// query that is still open may be answered on the goroutine that calls Close, and a
// query that comes after Close is answered on a new goroutine. Both get ErrClosed.
//
// The owner never waits for ZooKeeper or a file system. Requests to ZooKeeper are
// made by a few workers, and a file is read by a separate goroutine, which may hang
// without consequences for the owner.
//
// # What the caller must not do
//
//   - Block in Reply or in a method of the Sink, or call Close or Entries there,
//     because both wait for the owner. Lookup, Cancel and Release may be called there.
//   - Change a Query after Lookup, or use it twice.
//   - Call Release more often for an account than there were successful replies for it.
package coins
