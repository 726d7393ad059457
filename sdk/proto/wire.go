// Package wire is the contract between picosnitch's host and its plugins, version 1: the .proto files of this folder and
// the code generated from them. docs/wire.md explains it; package sdk makes it comfortable.
package wire

// Version is the number of the contract. A host speaks its own version and the one before.
const Version = 1

// CodecProto is the codec of [ApplyRequest]: the batch is an encoded [Batch].
const CodecProto = 1

// Limits of version 1. The host keeps to them; a sink may rely on them.
const (
	MaxBatchBytes   = 1 << 20 // encoded batch
	MaxBatchRecords = 4096
	MaxPageBytes    = 4 << 20 // one page of an answer
	MaxPath         = 4096    // bytes kept of a path
	MaxName         = 16      // of a process name
	MaxCommandLine  = 4096    // of a command line
	MaxDomain       = 255
	MaxCgroup       = 1024
)
