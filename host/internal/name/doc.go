// Package name answers what an address is called, and how that is known.
//
// It learns from what processes were told (getaddrinfo, DNS answers on port 53) and from what they say (the server name of
// a TLS or QUIC client hello). Every name keeps its source and is believed only where it was seen:
//
//   - a result of getaddrinfo belongs to the process that called it;
//   - a DNS answer belongs to the process that received it, and as a weaker hint to its network namespace: one that a
//     system user received (a resolver) to all, one that an ordinary user received to the processes of that user only,
//     since any program can send itself answers. So an answer on the loopback leg of a stub resolver belongs to the
//     client, and the same answer on the outer leg to the resolver;
//   - a server name belongs to the one socket it was sent over;
//   - a reverse look-up, which others make, belongs to the address wherever it is used, and is never a flow's single name.
//
// A name is forgotten when its time to live and a grace are over, but a connection that was made before keeps it while it
// lives. Addresses that are shared keep several names, the newest first. Loopback, link-local, unspecified, broadcast and
// multicast addresses have none: what is behind them differs from one moment to the next.
//
// # Time
//
// There is no clock here: time is what payloads and windows say (boot ns), so that a replay gives the same names.
//
// # Concurrency
//
// All methods of a [Table] may be called from any goroutine; it starts none. Payloads are put together and parsed under one
// mutex and names are kept under another, so that [Table.Names] never waits for the parsing of a stranger's bytes.
package name
