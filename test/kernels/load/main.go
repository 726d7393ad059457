// Command load asks the running kernel for each program of a BPF object alone, and prints a line a program: its name, the
// instructions that the verifier walked (or "-"), and what the kernel said if it refused. Nothing is attached.
//
// It exits with 1 if a program that the kernel takes is above the limit: such a program is about to be refused by
// another kernel. A program that is refused is no failure here, since the daemon chooses among several ways in.
package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
)

// limit is of the verifier's walk, for every program on every kernel.
const limit = 10_000

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: load OBJECT")
		os.Exit(2)
	}
	tooLarge, err := run(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(2)
	}
	if len(tooLarge) > 0 {
		fmt.Printf("above %d instructions: %s\n", limit, strings.Join(tooLarge, ", "))
		os.Exit(1)
	}
}

// run prints a line for every program of the object and returns the names of those above the limit.
func run(object string) (tooLarge []string, err error) {
	spec, err := ebpf.LoadCollectionSpec(object)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", object, err)
	}
	for _, name := range slices.Sorted(maps.Keys(spec.Programs)) {
		walked, err := load(spec, name)
		if err != nil {
			fmt.Printf("%s\t-\t%s\n", name, reason(err))
			continue
		}
		fmt.Printf("%s\t%d\t\n", name, walked)
		if walked > limit {
			tooLarge = append(tooLarge, name)
		}
	}
	return tooLarge, nil
}

// load loads one program, with all maps, and lets go of them.
func load(spec *ebpf.CollectionSpec, name string) (walked uint32, err error) {
	alone := spec.Copy()
	alone.Programs = map[string]*ebpf.ProgramSpec{name: alone.Programs[name]}
	loaded, err := ebpf.NewCollection(alone)
	if err != nil {
		return 0, err
	}
	defer loaded.Close()
	info, err := loaded.Programs[name].Info()
	if err != nil {
		return 0, fmt.Errorf("ask for %s: %w", name, err)
	}
	walked, _ = info.VerifiedInstructions() // kernels that cannot say are older than any that is supported
	return walked, nil
}

// reason is one line: the error, and the verifier's last words if there are some.
func reason(err error) string {
	text := err.Error()
	var verifier *ebpf.VerifierError
	if errors.As(err, &verifier) {
		text += " | " + strings.Join(verifier.Log[max(0, len(verifier.Log)-3):], " | ")
	}
	return strings.Join(strings.Fields(text), " ")
}
