package capture

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Failure is a way of a hook that cannot be had here.
type Failure struct {
	Way string
	Err error // never nil
}

// verifierTail is how many of the verifier's last lines a person gets to see: they name what it did not like.
const verifierTail = 5

func (f Failure) String() string { return fmt.Sprintf("%s: %v", f.Way, f.Err) }

// Unwrap lets [errors.Is] look at the cause.
func (f Failure) Unwrap() error { return f.Err }

// Error makes a Failure an error.
func (f Failure) Error() string { return f.String() }

// Errno names the kernel's answer, such as "EINVAL"; "" if the kernel was not even asked.
func (f Failure) Errno() string {
	var errno unix.Errno
	if !errors.As(f.Err, &errno) {
		return ""
	}
	return unix.ErrnoName(errno)
}

// Verifier gives the last lines of the verifier's log, without its statistics; none if it was not the verifier's refusal.
func (f Failure) Verifier() []string {
	var refused *ebpf.VerifierError
	if !errors.As(f.Err, &refused) {
		return nil
	}
	log := refused.Log
	if n := len(log); n > 0 && strings.HasPrefix(log[n-1], "processed ") {
		log = log[:n-1]
	}
	return append([]string(nil), log[max(0, len(log)-verifierTail):]...)
}

// why joins what became of a hook's ways.
func (h Hook) why() error {
	errs := make([]error, len(h.Failures))
	for i, f := range h.Failures {
		errs[i] = f
	}
	return errors.Join(errs...)
}
