// Package canary answers: do the probes still see? It moves a few known bytes between sockets of its own, in a network
// namespace of its own, has a tiny program executed now and then, and looks whether all of it comes back in the windows
// that capture drains. It is known by its sockets' cookies and by its file: what is its own is taken out of the windows
// before anybody else sees them.
//
// An exchange is judged by the windows that end after it: what is not there in the second one was not seen. Each exchange
// waits for the verdict on the one before. A window that lost something, and says so, condemns nobody.
//
// What it does not exercise: raw and ICMP sockets, splice, sendfile and mapping, SCTP, AF_PACKET, forks.
//
// # Concurrency
//
// [Canary.Tick] does all that may wait and is called from one goroutine; [Canary.Process], [Canary.Exit] and
// [Canary.Window] are called from the one that reads events, in their order; [Canary.Again] and [Canary.Counters] may be
// called from any. The mutex is held while the TCP pair is connected over loopback, otherwise never while something waits.
package canary
