// Package regularfile reads files that somebody else may have replaced by
// something that has no end or never answers: a pipe, a device, a file on a
// network file system whose server is away.
//
// Read accepts regular files only and bounds their size. It may still hang in
// the kernel, which nothing can prevent. InTime runs such a call in a goroutine
// of its own and gives up after a while; the call itself goes on and its result
// is dropped. The package calls nobody back and keeps no state. Callers must
// not use InTime in a loop without end: each call that hangs costs a goroutine
// and mostly a thread.
package regularfile
