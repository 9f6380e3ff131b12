// Package journal records what happens in the process for those who operate
// it: the events and the history of the last hour that the status page shows,
// and log lines in a number that nothing outside can drive up.
//
// Everything is bounded, whatever miners, pools and HTTP clients do: each kind
// of event has a room of its own, texts are clipped, the history has one sample
// per step, and of each kind of log line only the first few in a minute are
// written.
//
// The methods may be called from any goroutine, a relay loop included: locks
// are held for moments only and nothing is called back. The one goroutine of its
// own is a timer's, which logs how many lines were hidden. What Events.All and
// History.All return belongs to the caller, except the map in a Sample, which
// must not be changed. The kind of a log line must be a constant of the program
// and never a text from outside, because kinds are kept forever.
package journal
