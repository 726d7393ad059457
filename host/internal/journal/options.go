package journal

import "time"

const (
	defaultMaxBytes = 512 << 20
	defaultMaxAge   = 7 * 24 * time.Hour
	// leastMaxBytes leaves room for a few of the largest batches.
	leastMaxBytes = 4 << 20
)

// Options are what a Journal is opened with.
type Options struct {
	Dir    string           // made with mode 0700 if missing
	HostID [16]byte         // goes into every batch
	Now    func() time.Time // asked for the times of batches; nil: time.Now
	// MaxBytes bounds the file: above it the oldest batches are dropped, those first that every sink has. One Append
	// that is larger than that alone is taken all the same. 0: 512 MiB; less than 4 MiB is 4 MiB.
	MaxBytes int64
	// MaxAge is how long a batch waits for a sink; older ones are dropped. What a sink had no chance to take does not
	// age: nothing is dropped for it in the hour after a start, a sleep or a step of the clock. 0: 7 days.
	MaxAge time.Duration

	// elapsed is a clock that is never set, for tests; nil: the process's.
	elapsed func() time.Duration
}

// fill sets defaults.
func (o *Options) fill() {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = defaultMaxBytes
	}
	o.MaxBytes = max(o.MaxBytes, leastMaxBytes)
	if o.MaxAge <= 0 {
		o.MaxAge = defaultMaxAge
	}
	if o.elapsed == nil {
		begun := time.Now()
		o.elapsed = func() time.Duration { return time.Since(begun) }
	}
}
