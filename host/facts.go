package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	"github.com/picosnitch/picosnitch/host/internal/journal"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// positionMarks say how far windows have come, and that the host ran then.
func positionMarks(position capture.Position, now time.Time) ([]journal.Mark, error) {
	value, err := json.Marshal(position)
	if err != nil {
		return nil, fmt.Errorf("encode position: %w", err)
	}
	alive, err := now.UTC().MarshalText()
	if err != nil {
		return nil, fmt.Errorf("encode time: %w", err)
	}
	return []journal.Mark{{Key: markPosition, Value: value}, {Key: markAlive, Value: alive}}, nil
}

// readPosition gives what positionMarks wrote last; zero values if nothing was written yet.
func readPosition(j *journal.Journal) (capture.Position, time.Time, error) {
	var position capture.Position
	var alive time.Time
	if value, ok := j.Mark(markPosition); ok {
		if err := json.Unmarshal(value, &position); err != nil {
			return position, alive, fmt.Errorf("read position: %w", err)
		}
	}
	if value, ok := j.Mark(markAlive); ok {
		if err := alive.UnmarshalText(value); err != nil {
			return position, alive, fmt.Errorf("read time of last run: %w", err)
		}
	}
	return position, alive, nil
}

func fileKey(e *wire.Executable) capture.FileKey {
	return capture.FileKey{
		Superblock: e.GetSuperblock(), Device: e.GetDevice(), Inode: e.GetInode(), Ctime: e.GetCtime(), Size: e.GetSize(),
	}
}

// gap is a record of a time in which the view was incomplete. A start that is not known, or that a clock which was set back
// has in the future, is its end.
func gap(reason wire.GapReason, cause string, start, end time.Time) *wire.Record {
	if start.IsZero() || start.After(end) {
		start = end
	}
	return &wire.Record{Kind: &wire.Record_Gap{Gap: &wire.Gap{
		Start: start.UnixNano(), End: end.UnixNano(), Reason: reason, Cause: cause,
	}}}
}
