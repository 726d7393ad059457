package main

import (
	"context"

	"github.com/picosnitch/picosnitch/host/internal/helper"
)

// openHelpers makes what reads files that root must not read itself.
func (d *daemon) openHelpers() {
	pool, err := helper.New(helper.Options{})
	if err != nil {
		d.log.Warn("files of FUSE and network file systems are not hashed, and nobody asks whose a changed file is", "error", err)
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
