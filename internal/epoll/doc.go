// Package epoll has what the event loops of relay and tunnel need on Linux: polling
// without waiting, and a call that keeps the Go scheduler watching a loop that never
// waits.
package epoll
