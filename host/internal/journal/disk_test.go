package journal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/sdk"
	"github.com/picosnitch/picosnitch/test/need"
)

// hog fills a disk to the last page and returns the file that does it.
func hog(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "hog")
	f, err := os.Create(path)
	must(t, err)
	block := make([]byte, 4096)
	for err == nil {
		_, err = f.Write(block)
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	must(t, f.Close())
	return path
}

func TestAFullDiskIsSurvivedAndPasses(t *testing.T) {
	t.Parallel()
	dir := need.Disk(t, "size=24m,mode=0700")
	j, err := Open(Options{Dir: dir, HostID: testHost})
	must(t, err)
	defer func() { must(t, j.Close()) }()
	c := cursor(t, j, "a")
	if s := stats(t, j); !s.Reserve || s.Full != nil {
		t.Fatalf("at first: %+v", s)
	}
	sent := 0
	for ; sent < 100; sent++ {
		appendTo(t, j, wide(sent))
	}
	file := hog(t, dir)
	var refusal *DiskError
	var since time.Time
	for round := range 30 { // until what was free in the file is used up
		_, _, err := j.Append(wide(sent), Mark{"m", []byte{byte(round)}})
		if err == nil {
			sent++
			continue
		}
		if !errors.As(err, &refusal) || !errors.Is(err, ErrDisk) || !errors.Is(err, unix.ENOSPC) && !errors.Is(err, berrors.ErrMaxSizeReached) {
			t.Fatalf("append: %v", err)
		}
		if since.IsZero() {
			since = refusal.Since
		}
		if !refusal.Since.Equal(since) {
			t.Errorf("full since %v, then since %v", since, refusal.Since)
		}
	}
	if refusal == nil {
		t.Fatal("the disk was never full")
	}
	if s := stats(t, j); s.Full == nil || !s.Full.Since.Equal(since) {
		t.Errorf("full: %+v", s.Full)
	}
	t.Logf("refused; the reserve is whole: %v", stats(t, j).Reserve)
	// Sinks go on, their places become durable, and what they took makes room for what comes.
	half := 0
	for ; half < sent/2; half++ {
		b := next(t, c)
		must(t, c.Ack(sdk.Watermark{Epoch: b.Epoch, Sequence: b.Last}))
	}
	must(t, j.save())
	if moved := j.moved(); len(moved) > 0 {
		t.Error("the place of the sink did not become durable on a full disk")
	}
	recycled := 0
	for range half / 2 {
		if _, _, err := j.Append(wide(sent)); err == nil {
			sent++
			recycled++
		}
	}
	if recycled == 0 {
		t.Error("nothing could be appended in the place of what was taken")
	}
	must(t, os.Remove(file))
	for range 50 {
		appendTo(t, j, wide(sent))
		sent++
	}
	if s := stats(t, j); s.Full != nil || !s.Reserve {
		t.Errorf("with space again: full %v, reserve %v", s.Full, s.Reserve)
	}
	if got := read(t, c); len(got) != (sent-half)*20 {
		t.Errorf("%d records came, want %d", len(got), (sent-half)*20)
	}
}

func TestAJournalOpensOnAFullDisk(t *testing.T) {
	t.Parallel()
	dir := need.Disk(t, "size=16m,mode=0700")
	j, err := Open(Options{Dir: dir, HostID: testHost})
	must(t, err)
	cursor(t, j, "a")
	for i := range 60 {
		appendTo(t, j, wide(i))
	}
	hog(t, dir)
	must(t, j.Close())
	j, err = Open(Options{Dir: dir, HostID: testHost})
	must(t, err)
	if p := j.previous; p.last == 0 || !p.clean {
		t.Errorf("previous: %+v", p)
	}
	if got := read(t, cursor(t, j, "a")); len(got) != 60*20 {
		t.Errorf("%d records came", len(got))
	}
	must(t, j.Close())
}

func TestRefusalsOfTheDiskAreKnown(t *testing.T) {
	t.Parallel()
	for want, errs := range map[bool][]error{
		true: {
			unix.ENOSPC, unix.EDQUOT, unix.EIO, unix.EROFS, &os.PathError{Op: "write", Path: "x", Err: unix.ENOSPC},
			fmt.Errorf("file resize error: %s", unix.ENOSPC), fmt.Errorf("file sync error: %s", unix.EIO), berrors.ErrMaxSizeReached,
		},
		false: {nil, unix.EPERM, errors.New("no"), fmt.Errorf("%w: %w", errDamaged, unix.EIO), ErrTooLarge},
	} {
		for _, err := range errs {
			if refused(err) != want {
				t.Errorf("refused(%v) is %v", err, !want)
			}
		}
	}
}

// failingDisk mounts an ext4 of 64 MiB whose device has no more than 14 MiB: the file system takes
// what is written, and the device fails to.
func failingDisk(t *testing.T) string {
	t.Helper()
	below := need.Disk(t, "size=14m,mode=0700")
	image, dir := filepath.Join(below, "image"), t.TempDir()
	must(t, os.WriteFile(image, nil, 0o600), os.Truncate(image, 64<<20))
	for _, command := range [][]string{
		{"mkfs.ext4", "-q", "-O", "^has_journal", "-E", "lazy_itable_init=1,nodiscard", "-m", "0", image},
		{"mount", "-o", "loop,errors=continue", image, dir},
	} {
		if out, err := exec.Command(need.Program(t, command[0]), command[1:]...).CombinedOutput(); err != nil {
			need.Have(t, fmt.Sprintf("loop devices: %s: %v: %s", command[0], err, out), false)
		}
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", dir).Run() })
	return dir
}

func TestADiskThatFailsIsSurvived(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(failingDisk(t), "state")
	j, err := Open(Options{Dir: dir, HostID: testHost})
	must(t, err)
	c := cursor(t, j, "a")
	kept, failed := 0, 0
	for i := 0; i < 1000 && failed < 5; i++ {
		_, _, err := j.Append(wide(i))
		switch {
		case err == nil:
			kept++
		case errors.Is(err, ErrDisk):
			failed++
		case errors.Is(err, ErrBroken):
			failed = 5
		default:
			t.Fatalf("append: %v", err)
		}
	}
	if failed == 0 {
		t.Fatal("the disk never failed")
	}
	t.Logf("%d windows were kept; then: %v", kept, j.refusal())
	got, gaps := readAll(t, c)
	if len(got) != kept*20 || len(gaps) > 0 {
		t.Errorf("%d records and the gaps %v came, want %d and none", len(got), gaps, kept*20)
	}
	_ = j.Close() // the disk may take that, or not
}

func TestTheReserveIsGivenUpForWhatMakesRoomAndTakenBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j := open(t, dir)
	reserved := func() int64 {
		var st unix.Stat_t
		must(t, unix.Stat(filepath.Join(dir, ReserveName), &st))
		return st.Blocks * 512
	}
	if n := reserved(); n < reserveBytes {
		t.Fatalf("%d bytes are reserved", n)
	}
	j.db.MaxSize = 1 // the disk is full
	tries := 0
	err := j.commit(purge{}, func(tx *bolt.Tx) error {
		if tries++; tries == 2 && reserved() != 0 {
			t.Errorf("%d bytes are reserved at the second try", reserved())
		}
		return bucket(tx, nameMarks).Put([]byte("m"), make([]byte, 2<<20))
	})
	if s := stats(t, j); !errors.Is(err, ErrDisk) || tries != 2 || s.Reserve || s.Full == nil {
		t.Errorf("%v after %d tries: %+v", err, tries, s)
	}
	j.db.MaxSize = 0
	must(t, j.patrol()) // without an Append
	if s := stats(t, j); !s.Reserve || s.Full != nil || reserved() < reserveBytes {
		t.Errorf("with space again: %+v", s)
	}
}

func TestADamagedFileWaitsForSpace(t *testing.T) {
	dir := need.Disk(t, "size=8m,mode=0700")
	path := filled(t, dir)
	damagePageOf(t, path, "needle 20 ")
	damaged, err := os.ReadFile(path)
	must(t, err)
	full := hog(t, dir)
	must(t, os.Truncate(filepath.Join(dir, ReserveName), 0))
	more := filepath.Join(dir, "more")
	must(t, os.Rename(full, more))
	full = hog(t, dir)
	for range 2 { // as often as it is tried
		if j, err := Open(Options{Dir: dir, HostID: testHost}); !errors.Is(err, ErrDisk) {
			t.Fatalf("opened %v, %v", j, err)
		}
		if kept, err := os.ReadFile(path); err != nil || !bytes.Equal(kept, damaged) {
			t.Fatalf("the damaged file is another one: %v", err)
		}
	}
	if others, err := filepath.Glob(path + ".*"); len(others) > 0 || err != nil {
		t.Errorf("left behind: %q, %v", others, err)
	}
	must(t, os.Remove(full), os.Remove(more))
	j := open(t, dir)
	if came, gone, _ := account(t, j, cursor(t, j, "a")); came == 0 || came+gone != needles {
		t.Errorf("%d came and %d are said to be lost, of %d", came, gone, needles)
	}
}

func TestADiskTooSmallForTheReserveIsToldFromTheStart(t *testing.T) {
	t.Parallel()
	dir := need.Disk(t, "size=2m,mode=0700")
	j, err := Open(Options{Dir: dir, HostID: testHost})
	must(t, err)
	defer func() { must(t, j.Close()) }()
	if s := stats(t, j); s.Reserve || s.Full != nil || Reserved(dir) {
		t.Errorf("%+v", s)
	}
	appendTo(t, j, notices(1, "there is room for some"))
}
