// Package logfile is the sink behind conn.log: lines of text that survive a crash exactly once, in a file that others may
// read, move away and cut.
//
// A text file has no transactions. What stands in for one is a second file, conn.mark, which names the log by device and
// inode, says how many of its bytes are committed, and holds the watermarks. A batch is written behind the committed
// bytes and synced, then the mark is replaced by rename: that is the commit. Whatever lies behind the committed bytes at
// the next start belongs to a batch that was not acknowledged, and is cut off; the host sends it again.
//
// The log may be renamed at any time (logrotate): the next batch begins a new one. A log that somebody else shortens
// (copytruncate) is gone on with at its new end, but a crash may then double a batch.
//
// # Concurrency
//
// Apply, Configure and Drain are called one at a time, which package sdk sees to, and own the files. Health and Metrics
// may be called meanwhile and read atomics only.
package logfile
