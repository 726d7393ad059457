// Package supervisor answers one question: is everyone alive? It finds, verifies, sandboxes, starts and configures the
// plugins that it is given, hands sinks their batches, asks for their health, restarts what crashed, and stops them all.
// Nothing that a plugin is or does takes the host down or delays another plugin.
//
// Failures are of three kinds. Permanent ones (a file that may not be run, another protocol, a configuration that the
// plugin refuses) block a plugin until its file changes. Transient ones restart it, soon after the first crash and ever
// later after more. What lies behind a plugin (a server, a disk) leaves it running and only delays its batches.
//
// Below it: executable checks files, launch becomes the plugin, process and instance hold one incarnation.
//
// # Concurrency
//
// Run owns everything: a goroutine per plugin, which owns its incarnation, and while that runs one more for a sink's
// batches. They have ended when Run returns. Stop, Status and Query may be called from any goroutine at any time. Report
// is called from the plugins' goroutines, several at a time; it should not block, as it holds up its plugin.
package supervisor
