//go:build race

package helper

// memoryMB of a helper with the race detector, which is in it since it is this test.
const memoryMB = 1 << 20
