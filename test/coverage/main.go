// Command coverage makes docs/coverage.md from what the lab left in LAB_RESULTS files, of this machine and of guests with
// other kernels: which way onto the network is counted how, and the scenarios of a public comparison beside it. No result
// is written by hand: what no file holds is "not run".
//
// With -check it writes nothing and fails if the results contradict the file at -o. Kernels are compared by their series
// (6.1), not by their patch release. A kernel without a column there is named and left out.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
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

// compare fails if a cell of the committed page contradicts the results of this run, of the kernels that both know. What a
// machine lacks, or has and another one lacked, contradicts nothing: the lab itself fails where a kernel must have it.
func compare(out io.Writer, path, committed string, all results) error {
	page := readPage(committed)
	if len(page.kernels) == 0 {
		return fmt.Errorf("%s has no table of kernels: make coverage writes one", path)
	}
	wrong := 0
	for _, series := range all.kernels {
		if !slices.Contains(page.kernels, series) {
			fmt.Fprintf(out, "coverage: %s has no column for kernel %s: not compared\n", path, series)
			continue
		}
		n := 0
		for _, d := range page.differences(series, all.of[series]) {
			fmt.Fprintf(out, "coverage: kernel %s, %s\n", series, d)
			if d.contradicts() {
				n++
			}
		}
		fmt.Fprintf(out, "coverage: %s and the results of kernel %s: %d contradictions\n", path, series, n)
		wrong += n
	}
	if wrong > 0 {
		return fmt.Errorf("%s does not say what this run showed: make coverage writes it anew", path)
	}
	return nil
}
