package capture

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

func TestAFailureTellsErrnoAndTheVerifiersLastLines(t *testing.T) {
	t.Parallel()
	refused := &ebpf.VerifierError{
		Cause: unix.EACCES,
		Log:   []string{"0: one", "1: two", "2: three", "3: four", "4: five", "5: six", "processed 6 insns (limit 1000000)"},
	}
	f := Failure{Way: "fexit", Err: fmt.Errorf("load BPF programs: %w", refused)}
	if f.Errno() != "EACCES" {
		t.Errorf("errno %q", f.Errno())
	}
	if want := []string{"1: two", "2: three", "3: four", "4: five", "5: six"}; !slices.Equal(f.Verifier(), want) {
		t.Errorf("verifier said %q, want %q", f.Verifier(), want)
	}
	absent := Failure{Way: "fexit", Err: errAbsent}
	if absent.Errno() != "" || absent.Verifier() != nil {
		t.Errorf("of a function that does not exist: errno %q, verifier %q", absent.Errno(), absent.Verifier())
	}
	h := Hook{Failures: []Failure{f, absent}}
	if !errors.Is(h.why(), unix.EACCES) || !errors.Is(h.why(), errAbsent) {
		t.Errorf("%v does not wrap both causes", h.why())
	}
}
