package capture

import (
	"maps"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
)

// maxVerified is a hundredth of what kernels allow: the next kernel's verifier may need more for the same program.
const maxVerified = 10_000

func TestProgramsAreSmallForTheVerifier(t *testing.T) {
	k := open(t, testOptions(t, "verifier"))
	defer finish(t, k)
	for _, name := range slices.Sorted(maps.Keys(k.objects.programs)) {
		verified := verifiedInstructions(t, k.objects.programs[name])
		t.Logf("%-16s %5d instructions verified", name, verified)
		if verified == 0 || verified > maxVerified {
			t.Errorf("%s: %d instructions verified, want at most %d", name, verified, maxVerified)
		}
	}
}

func verifiedInstructions(t *testing.T, p *ebpf.Program) uint32 {
	t.Helper()
	info, err := p.Info()
	if err != nil {
		t.Fatal(err)
	}
	verified, ok := info.VerifiedInstructions()
	if !ok {
		t.Fatal("the kernel does not tell verified instructions, which it does since Linux 5.16")
	}
	return verified
}
