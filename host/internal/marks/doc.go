// Package marks is told by the kernel which files are executed and which of the executed ones are written to.
//
// Every local file system carries a mark: at each exec the kernel hands over an open descriptor of the file, so that it can
// be read even if the process and the name of the file are gone at once. Executables that have been hashed carry a mark of
// their own for writes. Both kinds of event come through one queue, so that their order is the kernel's (decision 11).
//
// File systems are found in the mount table of the host, at start and at every change, and in those of other mount
// namespaces when a process of theirs is first seen. File systems that a user's program serves (FUSE), that a network serves
// or that a user put together in a namespace of his own (overlays) are never marked: to open a file there can block for
// ever, and with it everything that waits for the queue.
//
// A mark does not keep a file system from being unmounted; a descriptor does, which is why whoever gets one must be quick.
//
// # Concurrency
//
// Marks is safe for use by many goroutines. One goroutine of its own reads the queue and calls the [Sink], another follows
// the mount table, and a third looks into other mount namespaces; Close waits for all of them, as long as its context lasts.
package marks
