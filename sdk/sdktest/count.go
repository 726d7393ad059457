package sdktest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
)

// CountLines makes an Options.Count for a plugin that keeps one flow a line: it counts the lines of the files that match
// pattern, relative to the plugin's directory (see filepath.Match), that contain the word. An empty word is in every line.
// A last line without a line break counts too: it is there twice if it comes again.
func CountLines(pattern, word string) func(directory string) (int, error) {
	return func(directory string) (int, error) {
		paths, err := filepath.Glob(filepath.Join(directory, pattern))
		if err != nil {
			return 0, fmt.Errorf("count lines of %q: %w", pattern, err)
		}
		n := 0
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				return 0, fmt.Errorf("count lines: %w", err)
			}
			for line := range bytes.Lines(text) {
				if bytes.Contains(line, []byte(word)) {
					n++
				}
			}
		}
		return n, nil
	}
}
