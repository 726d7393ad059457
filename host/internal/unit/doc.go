// Package unit answers which systemd unit, container or app a process belongs to.
//
// The answer comes from the path of the process's cgroup. A path is text that somebody wrote, so every answer says how far
// it can be trusted: it is verified only if nobody but root could have made the name, which depends on who owns the
// cgroups above it. Everything below a user's own cgroups (user.slice, user@UID.service, a delegated subtree) is a claim
// of that user: its id and name begin with "user 1000: ", so that it never equals a verified one. A container's name is
// read from the runtime's state, for verified containers alone: a forged id must not borrow the name of a real one.
//
// State that belongs to a user (rootless Podman and Docker, a runtime with a remapped root) is never read. The one thing
// read from inside a sandbox is /.flatpak-info, and only a claim is made of it.
//
// # Concurrency
//
// A [Finder] is safe for use by many goroutines. It starts none. Its mutex guards the cache alone and is not held while
// files are read.
package unit
