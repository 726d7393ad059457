package sdktest

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// tree is the contents of a directory: path and hash of each file.
func tree(directory string) (map[string]string, error) {
	files := map[string]string{}
	err := filepath.WalkDir(directory, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files[path] = fmt.Sprintf("%x", sha256.Sum256(text))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the plugin's directory: %w", err)
	}
	return files, nil
}
