//go:build race

package supervisor

// testMemoryMB: the race detector maps terabytes that it never touches, and RLIMIT_DATA counts them.
const testMemoryMB = 1 << 26
