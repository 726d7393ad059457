// Command jsonl is an example of a plugin: it keeps records as lines of JSON in a file, exactly once. docs/plugins.md walks
// through it.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/picosnitch/picosnitch/sdk"
)

func main() { sdk.Serve(&sink{settings: settings{Gaps: true}}) }

type settings struct {
	Gaps bool `json:"gaps" doc:"keep records that tell of gaps, too; flows are always kept"`
}

// commit is the line behind each batch. What comes after the last one was not acknowledged.
type commit struct {
	Kind  string          `json:"kind"` // "commit"
	Marks []sdk.Watermark `json:"watermarks"`
}

type sink struct {
	sdk.Base
	settings
	file  *os.File
	size  int64 // up to the last commit
	marks *sdk.Marks
}

func (s *sink) Describe() sdk.Description {
	return sdk.Description{Name: "jsonl", Version: "1.0", ConfigSchema: sdk.Schema(settings{Gaps: true})}
}

func (s *sink) Configure(_ context.Context, given sdk.Settings) (err error) {
	if err := sdk.Decode(given.Config, &s.settings); err != nil || given.ReadOnly {
		return err
	}
	s.file, err = os.OpenFile(filepath.Join(given.Directory, "records.jsonl"), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open file: %w", err)
	}
	var last commit
	for in, at := bufio.NewReader(s.file), int64(0); ; {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			s.marks = sdk.NewMarks(last.Marks)
			return s.file.Sync() // the plugin that wrote it may have died before it did
		}
		if at += int64(len(line)); err == nil && bytes.HasPrefix(line, []byte(`{"kind":"commit"`)) {
			err, s.size = json.Unmarshal(line, &last), at
		}
		if err != nil {
			return fmt.Errorf("read file, before byte %d: %w", at, err)
		}
	}
}

func (s *sink) Watermarks(context.Context) ([]sdk.Watermark, error) { return s.marks.List(), nil }

func (s *sink) Apply(_ context.Context, b *sdk.Batch) error {
	store, err := s.marks.Decide(b)
	if !store {
		return err
	}
	var lines bytes.Buffer
	for r, line := range sdk.Lines(b.Batch) {
		if r.GetFlow() != nil || s.Gaps && r.GetGap() != nil {
			lines.Write(append(line, '\n'))
		}
	}
	if err := json.NewEncoder(&lines).Encode(commit{"commit", s.marks.With(b)}); err != nil {
		return err
	}
	err = s.file.Truncate(s.size) // takes away what a crash or a full disk left
	if err == nil {
		_, err = s.file.Write(lines.Bytes())
	}
	if err == nil {
		err = s.file.Sync()
	}
	if err != nil {
		return &sdk.Retry{After: 5 * time.Second, Downstream: true, Err: err}
	}
	s.size += int64(lines.Len())
	s.marks.Stored(b)
	return nil
}
