package helper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/host/internal/packages"
)

// Main is a helper's main; args are what follows [Verb]. It reads an order, writes a reply and returns the exit status.
func Main(args []string) int {
	err := errors.New("it takes no arguments")
	if len(args) == 0 {
		err = serve()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "picosnitch "+Verb+" is called by picosnitch itself:", err)
		return 1
	}
	return 0
}

func serve() error {
	// Nobody may attach to this process, not even its user.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("prctl DUMPABLE: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(os.Stdin, maxOrder+1))
	if err != nil {
		return fmt.Errorf("read order: %w", err)
	}
	var o order
	if err := json.Unmarshal(text, &o); err != nil {
		return fmt.Errorf("decode order: %w", err)
	}
	if err := unprivileged(o.UID, o.GID); err != nil {
		return err
	}
	if err := limit(o.CPUSeconds, o.MemoryMB); err != nil {
		return err
	}
	if err := confine(needs{programs: o.Packages != nil, resolver: o.Reverse != nil}); err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(o.answer()); err != nil {
		return fmt.Errorf("write reply: %w", err)
	}
	return nil
}

func (o order) answer() reply {
	switch {
	case o.Hash != nil:
		return o.Hash.answer()
	case o.Packages != nil:
		return o.Packages.answer()
	case o.Symbol != nil:
		return o.Symbol.answer()
	case o.Reverse != nil:
		return o.Reverse.answer()
	}
	return reply{Problem: problemUnreadable, Error: "an order without a question"}
}

func (o *hashOrder) answer() reply {
	answer, err := o.hash()
	if err != nil {
		return reply{Problem: problemOf(err), Error: err.Error()}
	}
	return reply{Hash: &answer}
}

func (o *packagesOrder) answer() reply {
	owner, err := packages.Find(context.Background(), o.Options, string(o.Path))
	r := reply{Owner: packOwner(owner)}
	if err != nil {
		r.Error = err.Error()[:min(len(err.Error()), maxSaid)]
	}
	return r
}

// problemOf sorts errors.
func problemOf(err error) problem {
	switch {
	case errors.Is(err, ErrChanged):
		return problemChanged
	case errors.Is(err, ErrTooLarge):
		return problemTooLarge
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ESRCH), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ELOOP):
		return problemGone
	}
	return problemUnreadable
}
