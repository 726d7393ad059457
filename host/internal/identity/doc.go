// Package identity answers who did it: it keeps a table of process instances and of the executables that they run, and
// hashes those that use the network.
//
// A process instance is one program image run by one process: its facts come from the kernel at exec or fork, never from
// /proc of a process that may have changed since. What a process shows of itself at run time is kept beside them as a claim.
// An executable is a file as the kernel saw it when it was executed (superblock, device, inode, change time, size).
//
// # Hashes
//
// The SHA-256 of an executable is taken through an open descriptor that was compared with what the kernel saw: the one that
// the kernel handed over at the exec (package marks), else one opened through the process, else one opened by its path. It is
// taken when a flow asks for it, or when the last process that runs the file ends, and then the descriptor is closed: none
// outlives its processes by more than it takes to read the file.
//
// After reading, the file is compared again. If only its time is another, it may have been deleted, renamed or linked as well
// as written to: then a hash counts if every write since the first comparison would have been told and none was.
//
// A hash is given to later executions of the same file until the file is written to, or its file system is unmounted, or so
// many files follow that it is forgotten. It is given to nobody else if the file was written to within two ticks of its
// execution, if somebody else than the kernel may answer for its content (FUSE, network, overlays of a user's own), or if
// nobody knows.
//
// # Concurrency
//
// A Table is safe for use by many goroutines; one mutex guards all of it, and nothing that may block happens under it. Files
// are opened, compared and read by workers that the Table owns and Close waits for; a worker that a dead file system or a
// process's own memory holds is left behind. What would block an opener for ever is not opened here but handed to
// [Options.ReadAs].
package identity
