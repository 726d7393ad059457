// Package record answers what is worth telling: it turns a drained window of flows, whose processes identity has named,
// into the records that are journaled (sums, notices, gaps), and keeps the files that people know from picosnitch 1.0.3:
// record.json, exe.log and error.log.
//
// A window passes through in this order: who did it, privacy (`Log commands`, redaction), new programs (so that nothing
// that is ignored hides from notices), `Log ignore`, sums over what is left, and the share of each user and process.
//
// What is known lives in known.json in the root-owned state directory. record.json in the user's directory is its copy:
// read once, at the very first start, and from then on only compared, so that nobody mutes notices by editing it. It is
// bounded, and forgets: an account that has learned as much as it may forgets what it has not seen for longest.
//
// # Concurrency
//
// [Recorder.Window], [Recorder.Exec] and [Recorder.Forged] change what is known and are called from one goroutine, in the order of events.
// [Recorder.Flush] does all input and output and may run beside them: it holds no lock that they need while it waits for a
// disk. [Recorder.Error], [Recorder.Hashed], [Recorder.Verdict] and [Recorder.Counters] may be called from any goroutine.
// [Directory] may be used from any goroutine, but two writers of one name overwrite each other.
package record
