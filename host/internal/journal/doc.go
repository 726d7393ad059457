// Package journal answers one question: has everyone got it? Records are appended to one file, made durable, and handed
// to each sink from its own place until that sink has acknowledged them. Whatever becomes of a sink, of the host or of
// the power, a record that Append took is delivered at least once, in order, in the very bytes it was first written in.
//
// A start of the host is an epoch, named at random; sequences begin at 1 in it and have no gaps. Batches that an earlier
// run could not deliver keep its epoch. So (host id, epoch, sequence) never names two records, even when the file is
// restored from a backup or a snapshot.
//
// The file is journal.db (bbolt) in the state directory. It holds five buckets:
//
//	meta     "format" and "open" (there while the host runs: found at the next start, it says that the stop was unclean)
//	epochs   ordinal -> epoch, last sequence, time of the last append, chain hash
//	batches  ordinal, first sequence -> last sequence, time, checksum, encoded wire.Batch
//	cursors  sink -> ordinal, sequence
//	marks    key -> a small fact committed together with records
//
// A file that cannot be read is set aside as journal.db.corrupt-<time> and a new one is begun; see [Journal.Recovered].
//
// # Concurrency
//
// Every method of [Journal] may be called from any goroutine. Appends take turns and wait for the disk, never for a
// sink: a reader copies one batch out of a read transaction and holds nothing while its sink works. A [Cursor] belongs to
// one goroutine, except Lag, which anyone may call. One goroutine, owned by the journal and awaited by Close, writes
// acknowledgements to disk at most a second late and deletes what every sink has.
package journal
