// Package chaos is a long time of bad luck in a few minutes: while generators of the lab move bytes, plugins are killed,
// stopped and starved, the host is killed and restarted, the disk fills up and the SQL server goes away. Afterwards every
// store must hold exactly what the generators say that they moved.
//
// A world is one daemon with all its sinks on a disk of its own, and the traffic that it watches. A plan is what is
// done to it, chosen by a seed; the diary notes what was done when, and a failure prints it. What is checked at the end:
//
//   - each store holds the bytes of each generator process, not one more or less, and no record twice (stores.go,
//     difference.go);
//   - each gap has a reason among what was done, in its time (gaps.go);
//   - the host has not grown, and once it has stopped no process, mount, cgroup, pin or socket of it is left (leaks.go).
//
// A journal that is damaged on purpose is a test of its own: there, records may be missing, and a gap must name them.
//
// # Running
//
// As root: go test ./test/chaos. CHAOS_MINUTES says how long (one minute if not given, `make chaos` takes ten), CHAOS_SEED
// repeats a choice, CHAOS_ONLY=kill-host,fill-disk leaves out what it does not name. LAB_PATIENCE, LAB_KEEP (which leaves
// the disk's image) and PICOSNITCH_BIN mean what they mean to the lab. The same seed makes the same plan; when exactly its
// steps meet which instruction of the daemon is up to the machine.
//
// # Concurrency
//
// Everything happens on the test's goroutine, except that the mayflies of the traffic come from a goroutine that pause and
// finish wait for.
package chaos
