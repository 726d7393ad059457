package sdk_test

import (
	"context"
	"log/slog"

	"github.com/picosnitch/picosnitch/sdk"
)

// counter is a whole sink: it logs how much was sent. It keeps nothing, so it gets batches at least once.
type counter struct{}

func (counter) Describe() sdk.Description {
	return sdk.Description{Name: "counter", Version: "1.0"}
}
func (counter) Configure(context.Context, sdk.Settings) error       { return nil }
func (counter) Health(context.Context) error                        { return nil }
func (counter) Drain(context.Context) error                         { return nil }
func (counter) Watermarks(context.Context) ([]sdk.Watermark, error) { return nil, nil }
func (counter) Apply(_ context.Context, b *sdk.Batch) error {
	for _, r := range b.Records {
		slog.Info("flow", "seq", r.Sequence, "sent", r.GetFlow().GetSent())
	}
	return nil
}

// The main function of a plugin is one line.
func ExampleServe() {
	main := func() { sdk.Serve(counter{}) }
	_ = main
}
