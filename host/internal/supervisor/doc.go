// Package supervisor answers one question: is everyone alive? It finds, verifies, sandboxes, starts and configures the
// plugins that it is given, hands sinks their batches, asks for their health, restarts what crashed, and stops them all.
// Nothing that a plugin is or does takes the host down or delays another plugin.
//
// Failures are of three kinds. Permanent ones (a file that may not be run, another protocol, a configuration that the
// plugin refuses, a disk bound) block a plugin until its file, the directories above it, or what it keeps, change.
// Transient ones restart it, soon after the first crash and ever later after more; five within ten minutes are a crash
// loop, which is said, and tried at long intervals for ever. What lies behind a plugin (a server, a disk) leaves it running
// and only delays its batches. How the last ten incarnations ended is remembered.
//
// A plugin on demand runs only while somebody uses it. Sinks start before all others, and end after them.
//
// Below it: executable checks files, group bounds what a plugin takes, peers whom it talks to, launch becomes the plugin,
// process and instance hold one incarnation. What of the sandbox stands outside of the plugin is a fence; what is measured
// again and again is its guard.
//
// # Concurrency
//
// Run owns everything: a goroutine per plugin, which owns its incarnation, and while that runs one more for a sink's
// batches and one for its guard; and one that waits for each plugin that Reconfigure ends. They have ended when Run returns.
// Stop, Status, Query, Use, Log, Restart and Reconfigure may be called from any goroutine at any time. Report is called from
// the plugins' goroutines, several at a time; it should not block, as it holds up its plugin.
package supervisor
