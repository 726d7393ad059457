// Package sdktest is the conformance suite of picosnitch's plugins: [Run] starts a plugin's binary as the host does, with
// go-plugin, but without root and without the host, and holds it to docs/wire.md. Any plugin can run it, in any
// language: what it needs is the command that starts it.
//
// [Records] and [Stream] make the records that it sends; they are of use in a plugin's own tests too.
//
// # Concurrency
//
// Run uses only t's goroutine, and those of go-plugin, which end before it returns.
package sdktest
