//go:build !race

package helper

const memoryMB = 0
