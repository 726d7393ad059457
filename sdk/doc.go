// Package sdk is what the author of a picosnitch plugin imports: types to implement, [Serve] for main, settings decoded
// into a struct ([Decode], [Schema]), the decisions of a sink that stores exactly once ([Marks], [Sequel]), records as flat
// rows or JSON ([Columns], [Rows], [Lines]), one escape for text that a process chose ([Escape]), and the hash chain ([Seal],
// [Check]). docs/plugins.md is the guide. The contract itself lies in the folder proto and is told in prose in
// docs/wire.md. Package storekit has what a store needs to answer queries; package sdktest checks a finished plugin against
// the contract.
//
// A plugin is a value with the four methods of [Plugin], of which [Base] has three. What else it is follows from what it
// implements, and nothing is declared twice: [Sink], [Store], [Verdicts], [Locator], [UI] are its kinds; [Exporter],
// [Importer], [Checker], [Compacter] and [Witness] its features as a store; [Meter] adds numbers of its own to those that
// every plugin reports. See the example for a whole one.
//
// A plugin writes nothing to standard output, which belongs to the handshake; it logs with package slog or log, and
// what it logs reaches the host's log. It may panic in a method: that call fails, the plugin goes on.
//
// [Version] follows semver.org: within a major version nothing exported is taken away or changes its meaning.
//
// # Concurrency
//
// Describe is called first, and may be called again at any time. Configure is called once, alone. Then Apply is called
// from one goroutine at a time; everything else that answers (Query, Judge, Locate, Export, Check, Health, Metrics and so
// on) may be called from many, also during Apply. Serve of a [UI] has a goroutine of its own from Configure to Drain.
// Drain is called last: calls that run are waited for first, their contexts are cancelled, and nothing is called after
// it. Every context ends when the host gives up waiting; a method that goes on after that only delays Drain.
//
// The functions of this package may be called from any goroutine; a record or batch that they are given must not change
// meanwhile. [Seal] writes to its batch.
package sdk
