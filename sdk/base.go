package sdk

import "context"

// Base gives a plugin that embeds it every method that it has nothing to say in: Configure ignores its settings, Health is
// well, Drain does nothing, and Watermarks remembers nothing, which means batches at least once. What is left to write
// is Describe, and Apply for a sink.
type Base struct{}

// Configure ignores the settings.
func (Base) Configure(context.Context, Settings) error { return nil }

// Health is well.
func (Base) Health(context.Context) error { return nil }

// Drain has nothing to make safe.
func (Base) Drain(context.Context) error { return nil }

// Watermarks are none: the sink does not remember what it holds.
func (Base) Watermarks(context.Context) ([]Watermark, error) { return nil, nil }
