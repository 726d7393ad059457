package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/picosnitch/picosnitch/host/internal/canary"
	"github.com/picosnitch/picosnitch/host/internal/capture"
	"github.com/picosnitch/picosnitch/host/internal/journal"
)

// markCanary is where the journal keeps which sockets were the canary's: a host that is killed leaves flows of them
// behind, which the next one takes out.
const markCanary = "canary"

// canaryMark is the value. Cookies are unique within one boot.
type canaryMark struct {
	BootID  [16]byte `json:"boot_id"`
	Cookies []uint64 `json:"cookies"`
}

// openWatch makes what looks whether the view is complete. It comes after the pipeline, through which gaps go.
func (d *daemon) openWatch() {
	d.gaps = &ledger{add: d.pipeline.add}
	d.pipeline.watch = &watch{
		gaps: d.gaps, probes: d.source, read: readClocks, fault: d.fault, note: d.note, log: d.log,
		adopted: d.source.Adopted(),
	}
	d.attachMissing()
	d.canary = canary.New(canary.Options{
		Hooks: d.source.Hooks(), FileKey: d.source.FileKey, Known: d.knownCookies(), Keep: d.keepCookies, Now: capture.Now,
	})
	d.pipeline.watch.canary = d.canary
	d.pipeline.watch.missing(d.source.Hooks(), d.started)
}

// attachMissing looks again for hooks that a host which was killed may have left down.
func (d *daemon) attachMissing() {
	if !d.source.Adopted() {
		return
	}
	for _, h := range d.source.Hooks() {
		if h.Way != "" {
			continue
		}
		if err := d.source.AttachMissing(); err != nil {
			d.fault(oneLine(err.Error()))
		}
		return
	}
}

func (d *daemon) knownCookies() []uint64 {
	var m canaryMark
	value, ok := d.journal.Mark(markCanary)
	if !ok || json.Unmarshal(value, &m) != nil || m.BootID != d.bootID {
		return nil
	}
	return m.Cookies
}

func (d *daemon) keepCookies(cookies []uint64) error {
	value, err := json.Marshal(canaryMark{BootID: d.bootID, Cookies: cookies})
	if err != nil {
		return err
	}
	_, _, err = d.journal.Append(nil, journal.Mark{Key: markCanary, Value: value})
	return err
}

// findOff looks, before capture takes them over, whether the probes of an earlier host are off.
func (d *daemon) findOff() {
	since, off, err := capture.Off(d.settings.Instance)
	if err != nil {
		d.log.Warn("look at what an earlier host left", "error", err)
	}
	if off {
		d.off = since.UTC
	}
}

// reportOff tells of probes that were taken over and had been off; what was opened meanwhile is looked at.
func (d *daemon) reportOff() {
	if d.off == 0 || !d.source.Continued() {
		return
	}
	if err := d.source.Rescan(); err != nil {
		d.fault(fmt.Sprintf("look for open sockets: %v", err))
	}
	d.pipeline.watch.tellExpired(d.off, time.Now().UnixNano())
}
