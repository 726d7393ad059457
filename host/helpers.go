package main

import (
	"context"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	"github.com/picosnitch/picosnitch/host/internal/helper"
	"github.com/picosnitch/picosnitch/host/internal/reverse"
)

// openHelpers makes what finds out what root must not find out itself.
func (d *daemon) openHelpers() {
	pool, err := helper.New(helper.Options{})
	if err != nil {
		d.log.Warn("files of FUSE and network file systems are not hashed, and nobody asks whose a changed file is, or an address",
			"error", err)
		return
	}
	d.helpers = pool
	d.onClose(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), closeBudget)
		defer cancel()
		return pool.Close(ctx)
	})
	d.owners = newOwners(pool, d.log)
	d.onClose(func() error { d.owners.close(); return nil })
}

// openReverse makes what has addresses looked up.
func (d *daemon) openReverse() {
	if d.helpers == nil {
		return
	}
	d.reverse = reverse.New(reverse.Options{Resolver: d.helpers, Learn: d.names.Learn, Note: d.note, Now: capture.Now})
	d.reverse.Enable(d.inForce.get().Host.ReverseDNS)
	d.onClose(func() error { d.reverse.Close(); return nil })
}
