// Package library follows getaddrinfo in the C libraries of containers: which name a process asked for before it connects
// is known there as it is on the host, whose own libraries capture follows from the start.
//
// A library is found in what a process of another mount namespace has mapped, so that no path is walked there, and is
// followed once, however many processes and namespaces use it, until the last process of these has ended: a probe keeps the
// library's file system from being unmounted. What the library says about itself is read by a helper, not by root. A user's
// own can at most name addresses wrongly to his own processes.
//
// The first moments of a namespace are not seen: its first program has begun by the time its library is found.
//
// # Concurrency
//
// [Libraries] is safe for use by many goroutines. One of its own looks, attaches and detaches, all of which may wait;
// [Libraries.Close] waits for it.
package library
