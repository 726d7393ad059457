// Package helper answers what root must not find out itself: what is in a file that a user's file system serves, what the
// package databases say, where a function lies in a library that anybody may have made, and what addresses are called by
// their owners.
//
// Reading a file of a FUSE or network file system runs code, or waits for code, of whoever serves it; root is refused by FUSE
// in any case. Parsing a database, a library or a stranger's answer is work for nobody's rights, not for root's. So all are
// done by a short-lived process: the host executed again with the hidden verb [Verb], as the user who may read the file, in no
// groups, without capabilities and no way to gain them, in a session of its own, with bounds on time, memory and descriptors,
// without the system calls that start programs, open sockets or change files; only who asks rpm may start it, and only who
// asks a resolver may open sockets, TCP and UDP ones that connect. It reads one question from its standard input and writes
// one answer to its standard output.
//
// A helper that does not answer by its deadline is killed. One that waits in the kernel for a server that took the request
// and is silent cannot be killed: it is abandoned, counted until it ends after all, and its place given to others. No user
// can have more than a share of the places, abandoned ones included, so that one hung mount does not stop the hashing of
// other people's files.
//
// The user of a helper may kill it, and attach to it until its first call, which forbids that. He gains nothing: he could as
// well have served, or written, another file.
//
// The host's file must be executable for everybody (mode 0755): the helper is it, without the right to pass over modes.
//
// # Concurrency
//
// A [Pool] is safe for use by many goroutines. Credentials belong to threads: one thread, the starter's, gives up the
// bounding set and the way back for good, and all helpers are its children, so that they are born without. For each helper a
// goroutine waits for its end; [Pool.Close] waits for them all.
package helper
