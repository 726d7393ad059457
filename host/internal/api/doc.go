// Package api answers one question: what may a local user ask the daemon? It serves the contract's Host service (Status,
// Plugins, Query) over gRPC on a unix socket in the run directory, and has the client for the picosnitch command.
//
// Everybody may connect; the kernel says who it is when they do. Root, the configuration's owner and members of group
// picosnitch get every answer. Everybody else gets Status without names or addresses, and a refusal in words for the rest.
// Nothing that a client sends is opened, executed or used as a path.
//
// # Concurrency
//
// A Server owns the goroutine that accepts, and those of gRPC; they have ended when Close returns. The Backend is called
// from many goroutines at once, for a bounded number of queries. A Client may be used from any goroutine.
package api
