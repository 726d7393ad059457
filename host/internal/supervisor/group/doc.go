// Package group answers one question: how much may a plugin take? Each plugin lives in a control group of its own, with a
// bound on memory and on processes, from before its first instruction. What the group counted tells afterwards whether the
// kernel ended the plugin for want of memory.
//
// In the unified hierarchy (v2) the groups lie below the host's own group, where that was delegated: the controllers are
// switched on there, and the host steps aside into a child, as the kernel asks. Where the unified hierarchy has no memory
// or pids controller, those of version 1 are used. Where neither can be had, the groups still exist if at all possible,
// since the programs of package peers need one; what bounds the plugin then are resource limits of package launch.
//
// # Concurrency
//
// A Parent's Make and a Group's methods may be called from any goroutine; Close once, last.
package group
