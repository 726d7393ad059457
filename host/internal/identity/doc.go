// Package identity answers who did it: it keeps a table of process instances and of the executables that they run, and
// hashes those that use the network.
//
// A process instance is one program image run by one process: its facts come from the kernel at exec or fork, never from
// /proc of a process that may have changed since. An executable is a file as the kernel saw it when it was executed
// (superblock, device, inode, change time, size); its SHA-256 is taken through an open descriptor that was compared with
// that, before and after reading.
//
// # Concurrency
//
// A Table is safe for use by many goroutines; one mutex guards all of it. Files are opened and read by workers that the
// Table owns and Close waits for; a worker that a dead file system holds is left behind and counted.
package identity
