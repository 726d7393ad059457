// Package instance is one incarnation of a plugin: a process and the gRPC connection to it, from start to forensics. It
// wraps go-plugin so that nothing a plugin does can crash, block, or exhaust the host:
//
//   - go-plugin never sees standard error, and of standard output only a handshake line that was checked before;
//   - it dials, through a descriptor that cannot be exchanged, only sockets of the plugin in the plugin's own directory;
//   - TLS is always on, multiplexing and the broker are off, answers are capped;
//   - every call that has no deadline of its own is ended by killing the process.
//
// # Concurrency
//
// The methods of [Instance] may be called from any goroutine. Its goroutines (two pipe readers, go-plugin's, the
// process's) have ended when Close returns.
package instance
