// Package relay moves bytes over TCP for many connections on few goroutines.
//
// A Loop is an event loop with a goroutine of its own. Each Socket belongs to one loop for its
// whole life, and everything about it happens on that loop's goroutine: reading, writing, its
// timers and the calls to its Owner. That is why neither sockets nor their owners need locks.
//
// What it promises:
//
//   - An Owner gets all bytes it has not consumed yet and returns how many it consumed. The rest
//     is given to it again with what follows, so owners see whole lines without buffering.
//   - Write never blocks. What the peer does not take waits, up to MaxUnsent bytes; the owner
//     hears when all of it is gone. A peer that takes nothing for 30 seconds is closed.
//   - Bytes arrive in order, none twice, and none are lost while a loop is stopped.
//   - The end of a connection is reported once, and only if the owner did not close it.
//   - Reading and writing allocate nothing as long as each read ends with a whole line and the
//     peer takes what is written.
//
// Who may call what: all methods of Socket and Timer and most of Loop belong to the loop's
// goroutine, or to whoever has stopped the loop. Only Post, Call, Start and Stop may be called
// from other goroutines. A Listener belongs to the goroutine that accepts; Pause, Resume and
// Close may be called by others.
//
// An owner must not block in a callback, since that stops every other connection of the loop. It must
// not keep the bytes it is given, and it must not touch a socket of another loop: it posts a
// function to that loop instead. A posted function may run late and has to check whether it is
// still wanted.
//
// A connection that another process decrypts is a socketpair here. Its socket is like any other, except
// that it has no addresses and no TCP options, and that Reset goes through Loop.ResetCarried.
//
// On Linux a loop is an epoll descriptor. Elsewhere, and with the build tag portable_relay, the
// same loops and sockets are made of goroutines and net.Conn; that is for building and testing,
// not for thousands of connections. FD, Detach, Restore and what else passes descriptors on to
// another process exist on Linux only.
package relay
