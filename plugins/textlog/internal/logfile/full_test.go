package logfile

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/picosnitch/picosnitch/sdk"
	"github.com/picosnitch/picosnitch/test/need"
)

func TestAFullDiskIsWaitedFor(t *testing.T) {
	b := newBench(t, `{}`)
	b.dir = need.Disk(t, "size=256k,mode=0700")
	b.restart()
	var refused *sdk.Batch
	for refused == nil {
		batch := b.batch(100)
		err := b.sink.Apply(t.Context(), batch)
		var retry *sdk.Retry
		switch {
		case err == nil:
			b.flows += 100
		case errors.As(err, &retry) && retry.Downstream && strings.Contains(err.Error(), "no space left"):
			refused = batch
		default:
			t.Fatalf("apply: %v", err)
		}
	}
	if err := b.sink.Health(t.Context()); err == nil || !strings.Contains(err.Error(), "free some space") {
		t.Errorf("health: %v", err)
	}
	b.whole()
	if err := b.sink.Apply(t.Context(), refused); err == nil {
		t.Error("taken although nothing was freed")
	}
	if err := os.Rename(b.path(logName), b.path(logName+".1")); err != nil { // and away with it
		t.Fatal(err)
	}
	b.whole()
	if err := os.Remove(b.path(logName + ".1")); err != nil {
		t.Fatal(err)
	}
	b.flows = 0
	b.store(refused)
	b.restart()
	b.store(b.batch(100))
	b.whole()
	if err := b.sink.Health(t.Context()); err != nil {
		t.Errorf("health: %v", err)
	}
}
