package sdk_test

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/picosnitch/picosnitch/sdk"
)

// counter is a whole sink: it logs how much was sent. It keeps nothing, so it gets batches at least once.
type counter struct{ sdk.Base }

func (counter) Describe() sdk.Description { return sdk.Description{Name: "counter", Version: "1.0"} }

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

// Settings are a struct with its defaults filled in.
func ExampleDecode() {
	settings := struct {
		Format string `json:"format" oneof:"text json" doc:"how lines look"`
		Keep   int    `json:"keep" range:"1..100"`
	}{Format: "text", Keep: 7}
	err := sdk.Decode([]byte(`{"keep": 0}`), &settings)
	fmt.Println(err)
	// Output: configuration: keep: want a whole number from 1 to 100
}
