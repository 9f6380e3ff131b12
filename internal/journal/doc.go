// Package journal records what happens in the process for its operators: the events
// and the history of the last hour that the status page shows, and log lines whose
// number is limited.
//
// Everything is bounded, whatever miners, pools and HTTP clients do: the number of
// events is limited for each kind separately, texts are clipped, the history has one
// sample per step, and only the first few log lines of each kind are written in a
// minute.
//
// The methods may be called from any goroutine, including a relay loop: locks are held
// only briefly, and there are no callbacks. Timers log how many lines were hidden.
// The results of Events.All and History.All belong to the caller, except the map in a
// Sample, which must not be changed. The kind of a log line must be a constant of the
// program and never a text from outside, because kinds are kept forever.
package journal
