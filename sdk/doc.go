// Package sdk is what the author of a picosnitch plugin imports: types to implement, [Serve] for main, the columns of
// `connections` ([Columns], [Row]), one escape for text that a process chose ([Escape]), and the hash chain ([Seal],
// [Check]). The contract itself lies in the folder proto and is told in prose in docs/wire.md; package sdktest checks a
// finished plugin against it.
//
// A plugin is a value with the four methods of [Plugin]. It is a sink if it is also a [Sink], a store if it is also a
// [Store]: the methods decide, nothing is declared twice. See the example for a whole one.
//
// A plugin writes nothing to standard output, which belongs to the handshake; it logs with package slog or log, and
// what it logs reaches the host's log. It may panic in a method: that call fails, the plugin goes on.
//
// # Concurrency
//
// Describe is called first, and may be called again at any time. Configure is called once, alone. Then Apply is called
// from one goroutine at a time; Query and Health may be called from many, also during Apply. Drain is called last: calls
// that run are waited for first, their contexts are cancelled, and nothing is called after it. Every context ends when
// the host gives up waiting; a method that goes on after that only delays Drain.
//
// The functions of this package may be called from any goroutine; a record or batch that they are given must not change
// meanwhile. [Seal] writes to its batch.
package sdk
