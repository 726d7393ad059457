package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/host/internal/api"
	"github.com/picosnitch/picosnitch/host/internal/config"
	"github.com/picosnitch/picosnitch/host/internal/home"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

const (
	maxSeen       = 4096     // executables that can be asked for
	maxExecutable = 32 << 20 // bytes of a file that is given away
	pieceBytes    = 256 << 10
)

// errNotGiven is wrapped by the error for a file that a plugin does not get.
var errNotGiven = errors.New("executable is not available")

// executables knows where files with a hash were seen last, as far as their paths mean something here: those of another
// mount namespace do not. Nothing is kept when no plugin may ask.
//
// # Concurrency
//
// Every method may be called from any goroutine.
type executables struct {
	mu    sync.Mutex
	on    bool
	paths map[[sha256.Size]byte]string
	order [][sha256.Size]byte // oldest first
}

func newExecutables(on bool) *executables {
	e := &executables{paths: map[[sha256.Size]byte]string{}}
	e.enable(on)
	return e
}

// enable begins or ends to keep.
func (e *executables) enable(on bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.on = on
	if !on {
		clear(e.paths)
		e.order = nil
	}
}

// take notes what records show.
func (e *executables) take(records []*wire.Record) {
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.on {
		return
	}
	for _, r := range records {
		for _, p := range processesOf(r) {
			e.noteLocked(p.GetExecutable())
		}
	}
}

func (e *executables) noteLocked(x *wire.Executable) {
	path := x.GetPath()
	if len(x.GetSha256()) != sha256.Size || x.GetScope() != "" || path.GetTruncated() || len(path.GetValue()) == 0 {
		return
	}
	sum := [sha256.Size]byte(x.GetSha256())
	if _, known := e.paths[sum]; !known {
		if len(e.order) >= maxSeen {
			delete(e.paths, e.order[0])
			e.order = e.order[1:]
		}
		e.order = append(e.order, sum)
	}
	e.paths[sum] = string(path.GetValue())
}

func (e *executables) path(sum []byte) (string, bool) {
	if len(sum) != sha256.Size {
		return "", false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	path, ok := e.paths[[sha256.Size]byte(sum)]
	return path, ok
}

// mayOpen tells whether any plugin is granted executables.
func (d *daemon) mayOpen(c config.Config) bool {
	for _, p := range c.Plugins() {
		if p.Enabled && p.Executables {
			return true
		}
	}
	return false
}

// OpenExecutable hands piece the file with this hash: one that the configuration's owner could read as well, and that still
// has the hash before the first byte of it goes out. Whoever switches it on sends away nothing that is not theirs to read.
func (d *daemon) OpenExecutable(ctx context.Context, sum []byte, piece func([]byte) error) error {
	if len(sum) != sha256.Size {
		return fmt.Errorf("%w: a SHA-256 has %d bytes, not %d", api.ErrQuestion, sha256.Size, len(sum))
	}
	path, ok := d.seen.path(sum)
	if !ok {
		return fmt.Errorf("%w: no file with the SHA-256 %s was seen lately", errNotGiven, hex.EncodeToString(sum))
	}
	file, err := openAs(ctx, d.settings.Owner, path)
	if err != nil {
		return fmt.Errorf("%w: %w", errNotGiven, err)
	}
	defer func() { _ = file.Close() }()
	return giveExecutable(ctx, file, sum, piece)
}

// giveExecutable reads a file twice: to see that it has the hash, then to hand it on, looking again.
func giveExecutable(ctx context.Context, file *os.File, sum []byte, piece func([]byte) error) error {
	for _, give := range []func([]byte) error{func([]byte) error { return nil }, piece} {
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			return fmt.Errorf("%w: %w", errNotGiven, err)
		}
		hash := sha256.New()
		if err := eachPiece(ctx, io.LimitReader(file, maxExecutable+1), func(data []byte) error {
			_, _ = hash.Write(data) // never fails
			return give(data)
		}); err != nil {
			return err
		}
		if have := hash.Sum(nil); !bytes.Equal(have, sum) {
			return fmt.Errorf("%w: the file that had the SHA-256 %x has another now", errNotGiven, sum)
		}
	}
	return nil
}

// eachPiece reads to the end.
func eachPiece(ctx context.Context, r io.Reader, give func([]byte) error) error {
	buffer := make([]byte, pieceBytes)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := io.ReadFull(r, buffer)
		if n > 0 {
			if err := give(buffer[:n]); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return fmt.Errorf("%w: %w", errNotGiven, err)
		}
	}
}

// openAs opens a regular file of at most maxExecutable bytes with the rights of owner.
func openAs(ctx context.Context, owner home.Owner, path string) (*os.File, error) {
	opened := make(chan *os.File, 1)
	err := home.As(ctx, owner, func() error {
		fd, err := unix.Openat2(unix.AT_FDCWD, path, &unix.OpenHow{
			Flags:   unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY,
			Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
		})
		if err != nil {
			return err
		}
		file := os.NewFile(uintptr(fd), "executable")
		info, err := file.Stat()
		switch {
		case err == nil && !info.Mode().IsRegular():
			err = errors.New("is no regular file")
		case err == nil && info.Size() > maxExecutable:
			err = fmt.Errorf("has %d bytes, at most %d are given away", info.Size(), maxExecutable)
		}
		if err != nil {
			return errors.Join(err, file.Close())
		}
		opened <- file
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("open it as uid %d: %w", owner.UID, err)
	}
	return <-opened, nil
}
