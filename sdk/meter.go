package sdk

import (
	"context"
	"runtime"
	"runtime/metrics"
	"strings"
	"sync/atomic"
	"time"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// Meter is optional: a plugin that counts something of its own.
type Meter interface {
	Plugin
	// Metrics gives numbers by name, lower-case letters, digits and underscores; units stand at the end of a name
	// (sent_bytes, wait_ns). It is called with every Health and is quick. Names that the SDK counts under are its own.
	Metrics(ctx context.Context) map[string]int64
}

// Bounds of what a plugin may report.
const (
	maxMetrics    = 256
	maxMetricName = 64
)

// counters are what the SDK counts by itself.
type counters struct {
	batches, records, bytes      atomic.Int64 // acknowledged, those that were stored before included
	retries, rejections, rewinds atomic.Int64
	applies, applyTime           atomic.Int64
	queries, panics              atomic.Int64
}

// applied counts one Apply by its answer.
func (c *counters) applied(b *Batch, answer *wire.ApplyResponse, took time.Duration) {
	c.applies.Add(1)
	c.applyTime.Add(int64(took))
	switch {
	case answer.GetAcknowledged() != nil:
		c.batches.Add(1)
		c.records.Add(int64(len(b.GetRecords())))
		c.bytes.Add(int64(len(b.Raw)))
	case answer.GetRetryAfter() != nil:
		c.retries.Add(1)
	case answer.GetRejected() != nil:
		c.rejections.Add(1)
	case answer.GetRewind() != nil:
		c.rewinds.Add(1)
	}
}

// metrics are the plugin's own numbers and the SDK's, which win.
func (s *server) metrics(ctx context.Context) map[string]int64 {
	all := map[string]int64{}
	if meter, ok := s.plugin.(Meter); ok {
		for name, value := range meter.Metrics(ctx) {
			if len(all) < maxMetrics && metricName(name) {
				all[name] = value
			}
		}
	}
	c := &s.count
	for name, counter := range map[string]*atomic.Int64{
		"batches": &c.batches, "records": &c.records, "bytes": &c.bytes, "retries": &c.retries,
		"rejections": &c.rejections, "rewinds": &c.rewinds, "applies": &c.applies, "apply_ns": &c.applyTime,
		"queries": &c.queries, "panics": &c.panics,
	} {
		all[name] = counter.Load()
	}
	all["go_heap_bytes"] = heapBytes()
	all["go_goroutines"] = int64(runtime.NumGoroutine())
	return all
}

func metricName(name string) bool {
	return name != "" && len(name) <= maxMetricName && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == ""
}

// heapBytes is what live and not yet collected objects take. Unlike runtime.ReadMemStats it stops nobody.
func heapBytes() int64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return int64(sample[0].Value.Uint64())
}
