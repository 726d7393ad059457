//go:build !race

package supervisor

const testMemoryMB = 128
