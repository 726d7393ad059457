// Package process answers one question: does it run? It starts a plugin through the launcher, tells when and how it ended
// whatever its descendants hold open, and ends it together with all of them.
//
// # Concurrency
//
// The parent-death signal of a child is sent when the thread ends that started it, so all children are started by one
// [Thread]. The methods of [Process] may be called from any goroutine. One goroutine per process watches for its end and
// is done when Done is closed.
package process
