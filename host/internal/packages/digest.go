package packages

import (
	"context"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"golang.org/x/sys/unix"
)

// newHash makes a hash by its name, nil for one that is not known.
func newHash(algorithm string) hash.Hash {
	switch algorithm {
	case "md5": // all that dpkg has
		return md5.New()
	case "sha1":
		return sha1.New()
	case "sha256":
		return sha256.New()
	case "sha384":
		return sha512.New384()
	case "sha512":
		return sha512.New()
	}
	return nil
}

// sums are of the same bytes.
type sums struct {
	sha256 []byte
	named  string // in hex, by the algorithm asked for
}

var errChanged = errors.New("changed while it was read")

// digest reads the file once for both hashes.
func digest(ctx context.Context, o Options, path, algorithm string) (sums, error) {
	root, err := unix.Open(o.Root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return sums{}, fmt.Errorf("open %s: %w", o.Root, err)
	}
	defer func() { _ = unix.Close(root) }()
	fd, err := unix.Openat2(root, path, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return sums{}, fmt.Errorf("open file: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	before, err := sized(fd, o.MaxBytes)
	if err != nil {
		return sums{}, err
	}
	all, named := sha256.New(), newHash(algorithm)
	if err := feed(ctx, io.MultiWriter(all, named), io.LimitReader(reader(fd), o.MaxBytes)); err != nil {
		return sums{}, err
	}
	after, err := sized(fd, o.MaxBytes)
	if err != nil {
		return sums{}, err
	}
	if before.Ctim != after.Ctim || before.Size != after.Size {
		return sums{}, errChanged
	}
	return sums{sha256: all.Sum(nil), named: hex.EncodeToString(named.Sum(nil))}, nil
}

// sized refuses what is no file, and what is too long.
func sized(fd int, limit int64) (st unix.Stat_t, err error) {
	if err := unix.Fstat(fd, &st); err != nil {
		return st, fmt.Errorf("stat file: %w", err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return st, errors.New("read file: not a regular file")
	case st.Size > limit:
		return st, fmt.Errorf("read file: %w", unix.EFBIG)
	}
	return st, nil
}

// feed copies in large pieces, until ctx ends.
func feed(ctx context.Context, to io.Writer, from io.Reader) error {
	buffer := make([]byte, 128<<10)
	for {
		n, err := from.Read(buffer)
		_, _ = to.Write(buffer[:n]) // a hash takes everything
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read file: %w", err)
		case ctx.Err() != nil:
			return fmt.Errorf("read file: %w", ctx.Err())
		}
	}
}
