// Package hello reads which server a client asks for: the server name of a TLS client hello, as the first bytes of a TCP
// stream or inside the first packets of a QUIC connection.
//
// All of it is bytes of an adversary. Nothing is kept that was not sent, and never more than [MaxSize] of one hello. QUIC's
// first packets are encrypted with keys that everyone can derive from the packet itself (RFC 9001, section 5.2), which
// protects them from being changed, not from being read.
package hello
