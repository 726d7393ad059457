// Command coverage makes docs/coverage.md from what the lab left in LAB_RESULTS files, of this machine and of guests with
// other kernels: which way onto the network is counted how, and the scenarios of a public comparison beside it. No result
// is written by hand: what no file holds is "not run".
//
// With -check it writes nothing and fails if the file at -o says anything else than the results do. Kernels are compared
// by their series (6.1), not by their patch release. A kernel without a column there is named and left out.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	check := flag.Bool("check", false, "compare with the file instead of writing it")
	path := flag.String("o", "docs/coverage.md", "the file")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: coverage [-check] [-o FILE] RESULTS.json...")
		flag.PrintDefaults()
	}
	flag.Parse()
	if err := run(os.Stdout, *path, *check, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "coverage:", err)
		os.Exit(1)
	}
}

func run(out io.Writer, path string, check bool, files []string) error {
	if len(files) == 0 {
		return errors.New("name the results: make coverage does, after running the lab here and in its guests")
	}
	all, err := readAll(files)
	if err != nil {
		return err
	}
	if err := all.known(); err != nil {
		return err
	}
	if !check {
		return write(path, render(all))
	}
	committed, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read what is committed: %w", err)
	}
	return compare(out, path, string(committed), all)
}

// write replaces the file in one step.
func write(path, text string) error {
	part, err := os.CreateTemp(filepath.Dir(path), ".coverage-")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer os.Remove(part.Name()) // gone already when all went well
	_, err = part.WriteString(text)
	if err := errors.Join(err, part.Chmod(0o644), part.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(part.Name(), path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// compare fails if the committed text differs from the results of this run, of the kernels that both know.
func compare(out io.Writer, path, committed string, all results) error {
	old := columns(committed)
	if len(old) == 0 {
		return fmt.Errorf("%s has no table of kernels: make coverage writes one", path)
	}
	for _, series := range all.kernels {
		if !slices.Contains(old, series) {
			fmt.Fprintf(out, "coverage: %s has no column for kernel %s: not compared\n", path, series)
		}
	}
	common := intersection(all.kernels, old)
	if len(common) == 0 {
		return fmt.Errorf("%s has columns for %s, this run has results of %s: nothing to compare",
			path, strings.Join(old, ", "), strings.Join(all.kernels, ", "))
	}
	same := slices.Equal(old, all.kernels)
	want, got := only(render(all), common, same), only(committed, common, same)
	if want == got {
		fmt.Fprintf(out, "coverage: %s agrees with the results of kernels %s\n", path, strings.Join(common, ", "))
		return nil
	}
	showDifference(out, got, want)
	return fmt.Errorf("%s does not say what this run showed: make coverage writes it anew", path)
}

// showDifference prints the first lines that only one text has.
func showDifference(out io.Writer, old, now string) {
	const most = 40
	shown := 0
	for _, side := range []struct{ sign, has, lacks string }{{"-", old, now}, {"+", now, old}} {
		lines := map[string]bool{}
		for _, line := range strings.Split(side.lacks, "\n") {
			lines[line] = true
		}
		for _, line := range strings.Split(side.has, "\n") {
			if !lines[line] && shown < most {
				fmt.Fprintln(out, side.sign, line)
				shown++
			}
		}
	}
}
