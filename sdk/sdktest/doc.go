// Package sdktest is the conformance suite of picosnitch's plugins: [Run] starts a plugin's binary as the host does, with
// go-plugin, but without root and without the host, and holds it to docs/wire.md: redelivery, batches after a hole, gaps in
// the place of records, batches in parts, kill -9 at any moment, calls that nobody waits for, hostile and huge records, kinds
// of records of a later version, wrong settings, read-only, drain. Any plugin can run it, in any language: what it needs is
// the command that starts it.
//
// In Go, Run is called from a test. For anything else there is a command:
//
//	go run ./sdk/sdktest/conform -plugin PATH -config JSON
//
// [Records], [Hostile], [Stream] and [Part] make the records that it sends; they are of use in a plugin's own tests too.
//
// # Concurrency
//
// Run uses only t's goroutine, and those of go-plugin, which end before it returns.
package sdktest
