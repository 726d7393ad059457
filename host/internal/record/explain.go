package record

import (
	"time"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// A notice of a new hash says whose file it is, which takes a moment to find out. It waits for that, but not for long: a
// package database that answers nothing must not keep the news from people.
const (
	explainTime  = 10 * time.Second
	explainLimit = 64 // that wait at once; beyond, notices go out as they are
)

// unexplained is a notice that waits for words.
type unexplained struct {
	notice *wire.Notice
	words  <-chan string
	since  time.Time
}

// explainLocked asks whose file it is, and tells whether the notice waits for the answer.
func (r *Recorder) explainLocked(now time.Time, notice *wire.Notice, s seen, sha256 []byte) bool {
	if r.options.Explain == nil || s.scoped || len(r.unexplained) >= explainLimit {
		return false
	}
	words := r.options.Explain(s.bare, sha256)
	if words == nil {
		return false
	}
	r.unexplained = append(r.unexplained, unexplained{notice, words, now})
	return true
}

// explainedLocked gives out the notices whose words have come, and those that have waited long enough.
func (r *Recorder) explainedLocked(now time.Time) {
	var left []unexplained
	for _, u := range r.unexplained {
		select {
		case words := <-u.words:
			if words != "" {
				u.notice.Text.Value = append(u.notice.Text.Value, " ("+words+")"...)
			}
		default:
			if waited := now.Sub(u.since); waited >= 0 && waited < explainTime {
				left = append(left, u)
				continue
			}
		}
		r.notices.news(u.notice)
	}
	r.unexplained = left
}
