//go:build !race

package identity

// raceDetector tells that everything takes ten times as long.
const raceDetector = false
