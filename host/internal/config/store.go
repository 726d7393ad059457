package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
)

// LastFileName is, in the state directory, the last configuration that was whole.
const LastFileName = "config.last.json"

// Files is a directory as a Store needs it. Errors of ReadFile wrap fs.ErrNotExist where that is the cause; WriteFile
// replaces a file as a whole.
type Files interface {
	ReadFile(name string, limit int64) ([]byte, error)
	WriteFile(name string, data []byte, perm fs.FileMode) error
}

// Store finds a configuration to run on. Home is the user's directory, State the host's own, which the user cannot
// write: a user who breaks his file does not thereby choose what runs.
type Store struct {
	Home  Files
	State Files
	Path  string // of config.json as the user knows it, for problems
}

// Source says where a configuration comes from.
type Source int

const (
	// FromFile: config.json, as it is.
	FromFile Source = iota
	// FromLast: config.json has an Error or cannot be read; the last good one runs on.
	FromLast
	// FromParts: config.json has an Error and there is no last good one; what is right in it counts, the rest has
	// defaults.
	FromParts
	// FromDefaults: there is no config.json, or none that can be read, and no last good one.
	FromDefaults
)

// String names the source for people.
func (s Source) String() string {
	switch s {
	case FromFile:
		return "config.json"
	case FromLast:
		return "the last good configuration"
	case FromParts:
		return "what is right in config.json, and defaults"
	}
	return "the defaults"
}

// Loaded is what a Store found.
type Loaded struct {
	Config   Config
	Source   Source
	Problems []Problem
	Changed  []string // keys in which config.json differs from the last good one; nil when there was none
}

// Load reads config.json. A missing file is written with the defaults, mode 0600; an existing one is never written.
// There is always a configuration to run on, and whatever went wrong is among the problems.
func (s Store) Load() Loaded {
	data, err := s.Home.ReadFile(FileName, MaxBytes)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return s.create()
	case err != nil:
		return s.fallBack(Loaded{Config: Defaults(), Source: FromDefaults, Problems: []Problem{s.problem(Error, err)}})
	}
	found := Loaded{Source: FromFile}
	found.Config, found.Problems = Load(data)
	for i := range found.Problems {
		found.Problems[i].File = s.Path
	}
	if Broken(found.Problems) {
		found.Source = FromParts
		return s.fallBack(found)
	}
	found.Changed = s.changed(found.Config)
	if err := s.keep(data); err != nil {
		found.Problems = append(found.Problems, s.problem(Warning, fmt.Errorf("keep a copy: %w", err)))
	}
	return found
}

// changed compares with the last good configuration, before it is replaced.
func (s Store) changed(now Config) []string {
	data, err := s.State.ReadFile(LastFileName, MaxBytes)
	if err != nil {
		return nil
	}
	last, _ := Load(data)
	return Changes(last, now)
}

// create writes the defaults.
func (s Store) create() Loaded {
	made := Loaded{Config: Defaults(), Source: FromDefaults}
	data, err := Encode(made.Config)
	if err == nil {
		err = s.Home.WriteFile(FileName, data, 0o600)
	}
	if err != nil {
		made.Problems = append(made.Problems, s.problem(Warning, fmt.Errorf("write the defaults: %w", err)))
		return made
	}
	made.Changed = s.changed(made.Config)
	if err := s.keep(data); err != nil {
		made.Problems = append(made.Problems, s.problem(Warning, fmt.Errorf("keep a copy: %w", err)))
	}
	return made
}

// fallBack replaces a broken configuration by the last good one, if there is one.
func (s Store) fallBack(broken Loaded) Loaded {
	data, err := s.State.ReadFile(LastFileName, MaxBytes)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			broken.Problems = append(broken.Problems, s.problem(Warning, fmt.Errorf("read the last good one: %w", err)))
		}
		return broken
	}
	last, problems := Load(data)
	if Broken(problems) { // by an older version's rules it was good
		return broken
	}
	broken.Config, broken.Source = last, FromLast
	return broken
}

// keep remembers a good configuration, if it is another one.
func (s Store) keep(data []byte) error {
	have, err := s.State.ReadFile(LastFileName, MaxBytes)
	if err == nil && bytes.Equal(have, data) {
		return nil
	}
	return s.State.WriteFile(LastFileName, data, 0o600)
}

// problem wraps an error of the file system, which names files and never contents.
func (s Store) problem(severity Severity, err error) Problem {
	return Problem{Severity: severity, File: s.Path, What: err.Error()}
}
