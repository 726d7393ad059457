// Package live answers what is going on now. It shows the flows that are being counted, with rates, and passes on
// executions, notices and gaps as they are made. What it shows went through the same privacy switches, ignore rules and
// shares as what is recorded, and nothing of it is kept.
//
// Flows come from two places: while somebody watches, the window that is being counted is read, without taking anything
// from it, as often as the most eager watcher wants a page; and the pipeline hands over every window when it is complete,
// which settles what moved since the last look. Without a way to look ([Options.Peek]) windows alone are shown.
//
// A watcher that is slow to take its pages gets fewer: what moves meanwhile is summed up, within bounds, and beyond those
// the oldest is dropped and counted. It holds up nobody. Nothing is computed when nobody watches.
//
// # Concurrency
//
// Every method may be called from any goroutine. [Feed.Records] and [Feed.Window] never wait for a watcher. A Feed owns
// one goroutine, which looks; it runs while somebody watches, and has ended when Close returns.
package live
