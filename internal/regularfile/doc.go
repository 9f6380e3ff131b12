// Package regularfile reads files that may have been replaced by something that has no
// end or never answers: a pipe, a device, or a file on a network file system whose
// server does not respond.
//
// Read accepts only regular files and limits their size. It may still hang in the
// kernel, which cannot be prevented. InTime runs such a call on another goroutine and
// returns after a time limit; the call itself continues and its result is dropped. The
// package keeps no state. Callers must not repeat InTime for ever, because each call
// that hangs costs a goroutine and usually a thread.
package regularfile
