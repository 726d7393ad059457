package record

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

const (
	recordFile = "record.json"
	knownFile  = "known.json"
	fileLimit  = 64 << 20
)

// load fills known at the start.
func (r *Recorder) load() error {
	data, err := r.state.ReadFile(knownFile, fileLimit)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil {
		k, copies, err := parseState(data, r.options.Known)
		if err == nil {
			r.known, r.copies, r.copied = k, copies, len(copies) > 0
			r.saved, r.copyOf = k.version, k.version
			return nil
		}
		aside := knownFile + ".broken"
		if err := r.state.WriteFile(aside, data, 0o600); err != nil {
			return err
		}
		r.Error(fmt.Sprintf("%s:%v, it was set aside as %s", knownFile, err, aside))
	}
	r.adopt()
	return nil
}

// adopt takes a record.json of 1.0.3 over at the very first start, or begins to learn.
func (r *Recorder) adopt() {
	r.learning = r.options.Learn
	data, err := r.home.ReadFile(recordFile, fileLimit)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		r.Error(err.Error())
		return
	}
	r.copies, r.copied = []string{contentHash(data)}, true
	k, err := parseRecord(data, r.options.Known)
	if err == nil {
		r.known, r.learning = k, 0
		return
	}
	aside := recordFile + ".broken"
	r.Error(fmt.Sprintf("%s:%v, it was set aside as %s", recordFile, err, aside))
	if err := r.home.WriteFile(aside, data, 0o600); err != nil {
		r.Error(err.Error())
	}
}

// Flush writes what is due: at once when a log line waits, else every Interval, and only what changed. Call it after the
// records of a window are journaled: what is saved here is not noticed again after a crash. What could not be written is in
// the error, stays pending and is tried again by the next call.
func (r *Recorder) Flush() error { return r.flush(false) }

// Close writes everything, due or not. The Recorder can still be used.
func (r *Recorder) Close() error { return r.flush(true) }

func (r *Recorder) flush(always bool) error {
	r.flushing.Lock()
	defer r.flushing.Unlock()
	now := r.clock()
	exe, failures, learning := r.takeLines(now)
	passed := now.Sub(r.lastFlush)
	if len(exe)+len(failures) == 0 && !always && passed >= 0 && passed < r.options.Interval {
		return nil
	}
	r.lastFlush = now
	err := errors.Join(
		r.append(exeLog, exe, &r.exe.lines),
		r.append(errorLog, failures, &r.errors),
	)
	if !learning { // known.json tells the next start that this one has learned
		err = errors.Join(err, r.save(now, always))
	}
	r.failed(now, err)
	return err
}

func (r *Recorder) takeLines(now time.Time) (exe, failures []string, learning bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, line := range r.limit.due(now) {
		r.errors.add(line)
	}
	return r.exe.take(), r.errors.take(), r.learning > 0
}

func (r *Recorder) append(name string, list []string, queue *lines) error {
	if len(list) == 0 {
		return nil
	}
	err := r.home.Append(name, joined(list))
	if err == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	queue.back(list)
	return err
}

// save writes known.json before its copy: it names the copy's hash, so that a crash in between is no edit. That the order
// alone has changed, as it does in every window, is no reason to write it, unless it is the last time.
func (r *Recorder) save(now time.Time, last bool) error {
	stale, checkErr := r.check(now)
	r.mu.Lock()
	if last && r.known.moved {
		r.known.version++
	}
	version := r.known.version
	if version == r.saved && version == r.copyOf && !stale {
		r.mu.Unlock()
		return checkErr
	}
	document, state := r.known.document(), r.known.state(nil)
	r.known.moved = false
	r.mu.Unlock()

	content := encodeJSON(document)
	hash := contentHash(content)
	if version != r.saved {
		state[keyCopies] = texts(append(slices.Clone(r.copies), hash))
		if err := r.state.WriteFile(knownFile, encodeJSON(state), 0o600); err != nil {
			return errors.Join(checkErr, err)
		}
		r.saved = version
	}
	if checkErr != nil {
		return checkErr // what cannot be read is not overwritten
	}
	if err := r.home.WriteFile(recordFile, content, 0o600); err != nil {
		return err
	}
	r.copyOf, r.copies, r.copied = version, []string{hash}, true
	return nil
}

// check compares record.json with the copy that was written, and tells whether it has to be written again.
func (r *Recorder) check(now time.Time) (stale bool, err error) {
	data, err := r.home.ReadFile(recordFile, fileLimit)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if r.copied {
			r.edited(now, "removed")
		}
		return true, nil
	case err != nil:
		return false, err
	case slices.Contains(r.copies, contentHash(data)):
		return false, nil
	}
	r.edited(now, "edited"+r.difference(data))
	return true, nil
}

// edited tells of another hand. What is known does not change by it.
func (r *Recorder) edited(now time.Time, how string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counters.Edits++
	r.notices.add(noticeOf(now, wire.NoticeKind_NOTICE_EDITED, recordFile+" was "+how))
}

// difference says what an edit changed, measured against known.json, which is as old as the copy was.
func (r *Recorder) difference(data []byte) string {
	after, err := parseRecord(data, r.options.Known)
	if err != nil {
		return fmt.Sprintf(": %v", err)
	}
	saved, err := r.state.ReadFile(knownFile, fileLimit)
	if err != nil {
		return ""
	}
	before, err := parseRecord(saved, r.options.Known)
	if err != nil {
		return ""
	}
	if words := difference(before, after); words != "" {
		return ": " + words
	}
	return ""
}

// failed gives one notice when writing begins to fail, with the words of 1.0.3.
func (r *Recorder) failed(now time.Time, err error) {
	if err != nil {
		r.mu.Lock()
		r.counters.FlushFailures++
		if !r.failing {
			r.notices.add(noticeOf(now, wire.NoticeKind_NOTICE_ERROR, "picosnitch write error"))
		}
		r.mu.Unlock()
	}
	r.failing = err != nil
}

func contentHash(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
