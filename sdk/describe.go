package sdk

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// kinds names what a plugin is by what it implements.
func kinds(p Plugin) []string {
	var names []string
	if _, ok := p.(Sink); ok {
		names = append(names, "sink")
	}
	if _, ok := p.(Store); ok {
		names = append(names, "store")
	}
	if _, ok := p.(Verdicts); ok {
		names = append(names, "verdicts")
	}
	if _, ok := p.(Locator); ok {
		names = append(names, "locator")
	}
	if _, ok := p.(UI); ok {
		names = append(names, "ui")
	}
	return names
}

// features are those that a plugin names and those that follow from what it implements.
func features(p Plugin, named []string) []string {
	all := slices.Concat(named, keeperFeatures(p))
	slices.Sort(all)
	return slices.Compact(all)
}

// check finds what the host would refuse.
func (d Description) check() error {
	switch {
	case d.Name == "" || strings.Trim(d.Name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "":
		return fmt.Errorf("description: name %q: want lower-case letters, digits and hyphens", d.Name)
	case d.Version == "":
		return errors.New("description: no version")
	case d.ConfigSchema != "" && !json.Valid([]byte(d.ConfigSchema)):
		return errors.New("description: config schema is not JSON")
	case d.Needs.MemoryMB < 0 || d.Needs.DiskMB < 0:
		return errors.New("description: memory and disk cannot be negative")
	}
	return nil
}

// encode is the Description as it travels.
func (d Description) encode(p Plugin) *wire.DescribeResponse {
	return &wire.DescribeResponse{
		Name:     clip(d.Name),
		Version:  clip(d.Version),
		Wire:     wire.Version,
		Kinds:    kinds(p),
		Features: clipAll(features(p, d.Features)),
		Needs: &wire.Needs{
			Network:  clipAll(d.Needs.Network),
			Paths:    clipAll(d.Needs.Paths),
			MemoryMb: uint32(d.Needs.MemoryMB),
			DiskMb:   uint32(d.Needs.DiskMB),
		},
		ConfigSchema: strings.ToValidUTF8(d.ConfigSchema, "\uFFFD"),
	}
}

// maxWords bounds what a plugin says in words: an error, a reason.
const maxWords = 1024

// clip makes text fit for a protobuf string, which must be UTF-8, and for a log: at most maxWords bytes.
func clip(text string) string {
	text = strings.TrimSpace(text)
	if len(text) > maxWords {
		text = text[:maxWords] + " …"
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}

func clipAll(texts []string) []string {
	out := make([]string, len(texts))
	for i, text := range texts {
		out[i] = clip(text)
	}
	return out
}
