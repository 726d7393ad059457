package logfile

import "time"

// config is what a person may set.
type config struct {
	Format string   `json:"format" oneof:"text json" doc:"text: the 17 fields of picosnitch 1.0.3, separated by commas; json: every record with all its fields, one object a line"`
	Rotate rotation `json:"rotate"`
}

// rotation says when the log is moved away. Without a size or an age it never is.
type rotation struct {
	SizeMB   int64 `json:"size_mb" range:"0..1048576" doc:"begin a new log before this one exceeds so many MiB; 0: never"`
	AgeHours int64 `json:"age_hours" range:"0..87600" doc:"begin a new log when this one was begun so many hours ago; 0: never"`
	Keep     int   `json:"keep" range:"1..1000" doc:"old logs kept, conn.log.1 being the newest"`
}

func defaults() config { return config{Format: "text", Rotate: rotation{Keep: 7}} }

// due says whether a log of that size, begun then, is moved away before more bytes are written to it.
func (r rotation) due(size, more int64, begun, now time.Time) bool {
	switch {
	case size == 0:
		return false
	case r.SizeMB > 0 && size+more > r.SizeMB<<20:
		return true
	}
	return r.AgeHours > 0 && now.Sub(begun) >= time.Duration(r.AgeHours)*time.Hour
}
