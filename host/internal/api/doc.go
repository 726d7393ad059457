// Package api answers one question: what may who ask the daemon? It serves the contract's Host, Keeper and Locator services
// over gRPC on unix sockets, and has the client for the picosnitch command.
//
// To host.sock in the run directory everybody may connect; the kernel says who it is when they do. Root, the
// configuration's owner and members of one group get every answer. Everybody else gets Status without names or addresses,
// and a refusal in words for the rest. A plugin has a socket of its own ([ServePlugin]), and by that its identity; what it
// may ask is told by its kind and the configuration's grants, in one table ([Grants]). Nothing that a client sends is
// opened, executed or used as a path.
//
// # Concurrency
//
// A Server owns the goroutine that accepts, and those of gRPC; they have ended when Close returns. The Backend is called
// from many goroutines at once, for a bounded number of queries. A Client may be used from any goroutine.
package api
