package logfile

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/picosnitch/picosnitch/sdk"
)

// markName is the file that makes the log exactly-once.
const markName = "conn.mark"

// mark is what is committed: so many bytes of that log, and with them every record up to the watermarks.
type mark struct {
	Device uint64          `json:"device"`
	Inode  uint64          `json:"inode"`
	Offset int64           `json:"offset"` // bytes
	Begun  time.Time       `json:"begun"`  // when the log was
	Marks  []sdk.Watermark `json:"watermarks"`
}

// errMark marks a file that is no mark of ours.
var errMark = errors.New("not a mark of textlog")

// loadMark reads the mark of a directory; without one it is the zero mark.
func loadMark(dir string) (mark, error) {
	path := filepath.Join(dir, markName)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return mark{}, nil
	}
	if err != nil {
		return mark{}, fmt.Errorf("read mark: %w", err)
	}
	var m mark
	if err := json.Unmarshal(text, &m); err != nil || m.Offset < 0 {
		return mark{}, fmt.Errorf("%s: %w", path, errMark)
	}
	return m, nil
}

// save replaces the mark. After an error the old one stands. The new one outlives a power cut once [syncDir] returned.
func (m mark) save(dir string) error {
	text, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode mark: %w", err)
	}
	path := filepath.Join(dir, markName)
	if err := writeSynced(path+".new", append(text, '\n')); err != nil {
		return fmt.Errorf("write mark: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("replace mark: %w", err)
	}
	return nil
}

func writeSynced(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// syncDir makes renames and new files in a directory outlive a power cut.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	return nil
}
