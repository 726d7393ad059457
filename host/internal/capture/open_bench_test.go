package capture

import "testing"

// BenchmarkOpen is the time from nothing to the first captured byte, without the rest of the host.
func BenchmarkOpen(b *testing.B) {
	for range b.N {
		k, err := Open(benchOptions(b))
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := k.remove(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
