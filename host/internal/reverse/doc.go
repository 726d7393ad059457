// Package reverse answers what addresses without a name are called by whoever owns them: it has the resolver asked (DNS type
// PTR).
//
// A question is traffic, in the name of picosnitch, and tells the resolver and the owner of the address that somebody looks.
// So nothing is asked unless that is switched on, and then only about remote addresses of recorded flows that had no other name
// when their window was complete. An address is asked about once an hour, and sooner only if nobody could tell.
//
//   - Never asked about is what can have no name, see [name.Nameable]: loopback, link-local and the like.
//   - Neither are name servers, which are those that anything in the window spoke with on a port of DNS: the question itself
//     goes to one, and a resolver on this machine goes on to others, whose addresses would be the next question, without end.
//   - Private addresses are asked about as all others: to name them is what a network's own resolver is for. One that is
//     elsewhere learns no more than the address, as of any other. It is the resolver of the machine, also for a container.
//
// The answer counts from the next window on. It is written by a stranger: a confined process reads it, and [name.Table] takes
// what can be a name.
//
// # Bounds
//
// Of a window at most [helper.MaxReverse] addresses are asked about, by users in turn, and while one batch is under way at most
// one waits. What does not fit is forgotten: if it is still in use it is in the next window too.
//
// # Concurrency
//
// All methods of an [Asker] may be called from any goroutine. New starts one, which asks; Close waits for it.
package reverse
