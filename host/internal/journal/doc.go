// Package journal answers one question: has everyone got it? Records are appended to one file, made durable, and handed
// to each sink from its own place until that sink has acknowledged them. Whatever becomes of a sink, of the host or of
// the power, a record that Append took is delivered at least once, in order, in the very bytes it was first written in;
// or, where it was dropped, given up or lost by the disk, a Gap that says so is, in its place.
//
// A start of the host is an epoch, named at random; sequences begin at 1 in it and have no gaps. Batches that an earlier
// run could not deliver keep its epoch. So (host id, epoch, sequence) never names two records, even when the file is
// restored from a backup or a snapshot.
//
// The file is journal.db (bbolt) in the state directory. It holds these buckets:
//
//	meta     "format"; "state": whether the host runs (found at the next start, it says that the stop was unclean), whether
//	         the file was saved from a damaged one that did not tell what all sinks have, how many rows other buckets have,
//	         and the first record kept
//	epochs   ordinal -> epoch, last sequence, time of the last append, chain hash
//	batches  ordinal, first sequence -> last sequence, time, checksum, encoded wire.Batch
//	cursors  sink -> ordinal, sequence; the same of where it began
//	marks    key -> a small fact committed together with records
//	holes    ordinal, first sequence, sink ("": any) -> last sequence, cause, times
//	aside    sink, 0, ordinal, sequence -> time, reason, records that the sink cannot take
//	retries  ordinal, first sequence, sink -> what this sink gets in the place of that batch
//
// # Bounds
//
// The file is bounded in bytes, and batches in age ([Options]). Above a bound the oldest batches are dropped: what every
// sink has at once, what one lacks with a hole that is committed together with the deletion. A sink that comes upon a
// hole gets a batch of one record that has the number of the last one missing: a Gap with the range, the number of
// records and the cause. Sinks that were further see nothing of it. [Journal.Discard] makes such a hole for one sink.
//
// A disk that is full or fails is a [DiskError] of Append, which takes nothing and can be called again. Until then
// journal.reserve gives up its space for what makes room: places of sinks, and deletions.
//
// # Damage
//
// A file that bbolt cannot be trusted with is set aside as journal.db.corrupt-<time>, and everything in it that proves to
// be good goes to a new one; the rest is holes. See [Journal.Recovered]. A batch that fails its checksum in a sound file
// is a [DamagedError] of Next.
//
// All values but those of batches, which have their own, end with a checksum over bucket, key and content. A sink whose
// place does not prove good, or is not there, gets everything that is kept again: it may be given twice what it has, and
// never too little. When the end of an epoch is lost, with the newest root of the file, a Gap of 0 events says that nobody
// knows how much followed. Files of format 1, which had none of these checksums, are converted.
//
// # Records that a sink cannot take
//
// [Suspects] finds them, [Cursor.SetAside] keeps them, [Journal.Aside] lists them, and [Journal.Retry] puts them in line
// again, under new numbers of the current epoch: a sink that goes by its watermark would take the old ones for records it
// has. For all other sinks the same numbers carry records without a kind, which a sink acknowledges and skips.
//
// Batches that were made for one sink (a Gap, a retry) have empty hash fields: they are no links of the chain, and the
// batch after them states the hash that it follows on.
//
// # Concurrency
//
// Every method of [Journal] may be called from any goroutine. Appends take turns and wait for the disk, never for a
// sink: a reader copies one batch out of a read transaction and holds nothing while its sink works. A [Cursor] belongs to
// one goroutine, except Lag and Stats, which anyone may call. One goroutine, owned by the journal and awaited by
// Close, writes acknowledgements to disk at most a second late, deletes what every sink has, drops what is too old, and
// compacts a file that is mostly empty.
package journal
