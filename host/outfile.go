package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// outFile is a file in the making: under another name until it is whole. "-" is standard output.
type outFile struct {
	*bufio.Writer
	file *os.File // nil for standard output
	path string
}

// createFile opens a file that only its owner can read: it will hold a history. The caller calls finish or discard.
func (c *call) createFile(path string) (*outFile, error) {
	if path == "-" {
		return &outFile{Writer: bufio.NewWriter(c.out)}, nil
	}
	switch info, err := os.Stat(path); {
	case err == nil && info.IsDir():
		return nil, fmt.Errorf("%s is a directory: name a file in it", path)
	case err == nil && !info.Mode().IsRegular(): // a device would be gone afterwards
		return nil, fmt.Errorf("%s is no file, and would be replaced by one: name another, or - for standard output", path)
	}
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		if wrong := (*fs.PathError)(nil); errors.As(err, &wrong) {
			err = wrong.Err // without the name that was tried
		}
		return nil, fmt.Errorf("make a file in %s: %w", filepath.Dir(path), err)
	}
	return &outFile{Writer: bufio.NewWriterSize(file, 1<<20), file: file, path: path}, nil
}

// finish gives the file its name, in the place of one that has it. What was written is on the disk then.
func (o *outFile) finish() error {
	if err := o.Flush(); err != nil || o.file == nil {
		return err
	}
	err := errors.Join(o.file.Sync(), o.file.Close())
	if err == nil {
		err = os.Rename(o.file.Name(), o.path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", o.path, err), os.Remove(o.file.Name()))
	}
	return nil
}

// discard removes what was written so far.
func (o *outFile) discard() {
	if o.file != nil {
		_ = o.file.Close()
		_ = os.Remove(o.file.Name())
	}
}

// toTerminal tells whether what is written there is shown on a terminal.
func toTerminal(out io.Writer) bool {
	file, ok := out.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
