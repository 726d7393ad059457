package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	"github.com/picosnitch/picosnitch/host/internal/helper"
	"github.com/picosnitch/picosnitch/host/internal/identity"
	"github.com/picosnitch/picosnitch/host/internal/marks"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// openMarks asks the kernel for the files that are executed. Without, programs are opened through /proc and by their path,
// as far as they are still there.
func (d *daemon) openMarks() identity.Follower {
	m, err := marks.Open(marks.Options{Overflowed: d.executionsLost, Report: d.note})
	if err != nil {
		d.log.Warn("the kernel does not hand over executed files; what ends at once may have no hash", "error", err)
		return nil
	}
	d.marks = m
	return m
}

// startMarks lets the kernel's files come, from when there is somebody to tell of trouble. The table takes them.
func (d *daemon) startMarks(context.Context) error {
	if d.marks == nil {
		return nil
	}
	d.onClose(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), closeBudget)
		defer cancel()
		return d.marks.Close(ctx)
	})
	if err := d.marks.Start(d.table); err != nil {
		d.log.Warn("mark file systems; what ends at once may have no hash", "error", err)
	}
	return nil
}

// executionsLost tells that the kernel had to drop events of executed and written files. Hashes are taken anew; those of
// programs that have ended may be missing.
func (d *daemon) executionsLost() {
	now := time.Now()
	d.gaps.add(gap(wire.GapReason_GAP_EVENTS_LOST, "fanotify queue: executed or changed files were missed", now, now))
	d.note("fanotify queue overflow: hashes are taken anew, some may be missing")
}

// readAs has a file that a user's program or the network serves hashed by a helper that is its user.
func (d *daemon) readAs(ctx context.Context, f identity.ServedFile, uid, gid uint32) ([]byte, capture.FileKey, error) {
	answer, err := d.helpers.Hash(ctx, helper.HashRequest{
		File: f.File, PID: f.Pid, Path: f.Path, UID: uid, GID: gid, MaxBytes: f.MaxSize,
	})
	for _, same := range []struct{ is, means error }{
		{helper.ErrTooLarge, identity.ErrTooLarge}, {helper.ErrChanged, identity.ErrChanged}, {helper.ErrGone, fs.ErrNotExist},
		{helper.ErrTimeout, context.DeadlineExceeded}, {helper.ErrBusy, context.DeadlineExceeded},
	} {
		if errors.Is(err, same.is) {
			err = fmt.Errorf("%w: %w", same.means, err)
		}
	}
	key := capture.FileKey{Device: answer.Device, Inode: answer.Inode, Ctime: answer.Ctime, Size: answer.Size}
	return answer.SHA256, key, err
}
