package main

import (
	"context"
	"os"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	"github.com/picosnitch/picosnitch/host/internal/helper"
	"github.com/picosnitch/picosnitch/host/internal/identity"
	"github.com/picosnitch/picosnitch/host/internal/library"
)

// openLibraries makes what follows the C libraries of containers. Without helpers there is nobody to read them.
func (d *daemon) openLibraries() {
	if d.helpers == nil {
		return
	}
	d.libraries = library.New(library.Options{
		ProcRoot: "/proc", Home: identity.MountNamespace("/proc"), Known: capture.HostLibrary, Log: d.log,
		Follow: d.source.Libraries().Follow,
		Symbol: func(ctx context.Context, file *os.File) (uint64, error) {
			return d.helpers.Symbol(ctx, helper.SymbolRequest{File: file, Name: "getaddrinfo"})
		},
	})
	d.onClose(func() error { d.libraries.Close(); return nil })
}

// began and ended tell who else may use the C library of a container.
func (p *pipeline) began(e *capture.Process) {
	if p.libraries != nil {
		p.libraries.Saw(e)
	}
}

func (p *pipeline) ended(e *capture.Exit) {
	if p.libraries != nil {
		p.libraries.End(e.Key)
	}
}
