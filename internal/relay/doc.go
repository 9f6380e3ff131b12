// Package relay moves bytes over TCP for many connections on few goroutines.
//
// A Loop is an event loop with its own goroutine. Each Socket belongs to one loop for its whole
// life, and everything about it happens on that loop's goroutine: reading, writing, its timers and
// the calls to its Owner. That is why neither sockets nor their owners need locks.
//
// This package promises the following:
//
//   - An Owner gets all bytes that it has not consumed yet and returns how many it consumed. It gets
//     the rest again together with the bytes that follow, so owners see whole lines without
//     buffering.
//   - Write never blocks. Bytes that the peer does not accept wait, up to MaxUnsent of them, and the
//     owner is called when all are sent. The connection to a peer that accepts nothing for 30 seconds
//     is closed.
//   - Bytes arrive in order, none of them twice, and none are lost while a loop is stopped.
//   - On Linux, a timer fires only after the bytes were handled that had arrived before it was due. So a
//     process that was stopped for a while does not mistake its own pause for a peer's silence.
//   - The end of a connection is reported once, and only if the owner did not close it.
//   - Reading and writing allocate nothing as long as each read ends with a whole line and the
//     peer accepts all bytes at once.
//
// All methods of Socket and Timer and most methods of Loop may be called only on the loop's
// goroutine, or by the goroutine that has stopped the loop. Only Post, Call, Start and Stop may be
// called from other goroutines. A Listener belongs to the goroutine that accepts. Pause, Resume and
// Close may be called from others.
//
// An owner must not block in a callback, because that stops every other connection of the loop. It
// must not keep the bytes that it gets. It must not touch a socket of another loop, but posts a
// function to that loop instead. A posted function may run late and has to check whether it is still
// needed.
//
// A connection that another process decrypts is a socketpair in this process: the other process
// carries the bytes between its end of the pair and the peer. Such a carried socket is like any
// other, except that it has no addresses and no TCP options, and that Reset calls Loop.ResetCarried.
//
// On Linux a loop is an epoll descriptor. Elsewhere, and with the build tag portable_relay, the same
// loops and sockets consist of goroutines and net.Conn. These are for building and testing, not for
// thousands of connections. FD, Detach, Restore and the other functions that pass descriptors on to
// another process exist only on Linux.
package relay
