package supervisor

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestDiskCountsEachFileOnceAndFollowsNoLink(t *testing.T) {
	t.Parallel()
	granted, elsewhere := t.TempDir(), t.TempDir()
	write := func(path string, mib int) {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, make([]byte, mib<<20), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(granted, "a/b/file"), 3)
	write(filepath.Join(elsewhere, "big"), 20)
	err := errors.Join(
		os.Link(filepath.Join(granted, "a/b/file"), filepath.Join(granted, "again")),
		os.Symlink(elsewhere, filepath.Join(granted, "out")),
		os.Symlink(filepath.Join(elsewhere, "big"), filepath.Join(granted, "a/big")))
	if err != nil {
		t.Fatal(err)
	}
	open, err := os.Create(filepath.Join(granted, "deleted"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = open.Close() }()
	if _, err := open.Write(make([]byte, 2<<20)); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(open.Name()); err != nil {
		t.Fatal(err)
	}
	d := &disk{limitMB: 8, paths: []string{granted, filepath.Join(granted, "missing")}}
	if used, err := d.check(t.Context()); err != nil || used>>20 != 3 {
		t.Errorf("%d bytes, %v; want 3 MiB", used, err)
	}
	d.pids = func() []int { return []int{os.Getpid()} }
	// Other tests run in this process: they may have deleted files open, too.
	if used, err := d.measure(t.Context()); err != nil || used>>20 < 5 {
		t.Errorf("%d bytes, %v; want 5 MiB with the deleted file", used, err)
	}
	d.limitMB, d.pids = 2, nil
	if _, err := d.check(t.Context()); !errors.Is(err, errFull) || !strings.Contains(err.Error(), "keeps 3 MiB, 2 are granted") {
		t.Errorf("error = %v", err)
	}
}

func TestDiskThatCannotBeMeasuredIsFull(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	if _, err := (&disk{limitMB: 1, paths: []string{t.TempDir()}}).check(ctx); !errors.Is(err, errFull) {
		t.Errorf("error = %v, want errFull", err)
	}
}

func TestFastGrowthIsMeasuredSooner(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	for _, c := range []struct {
		used, grown int64
		want        time.Duration
	}{
		{10 * mib, 0, measureEvery},
		{10 * mib, -5 * mib, measureEvery},
		{10 * mib, 1, measureEvery},
		{60 * mib, 10 * mib, 2 * time.Second}, // 40 left at 10 a second: half of it is used in 2 s
		{99 * mib, 50 * mib, measureSoon},
	} {
		if got := nextMeasure(c.used, c.grown, time.Second, 100); got != c.want {
			t.Errorf("used %d, grown %d: %v, want %v", c.used, c.grown, got, c.want)
		}
	}
}
