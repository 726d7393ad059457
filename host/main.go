// Command picosnitch watches which program talks to whom over the network, and how much. This is the host: the one
// privileged process, and the verbs that start, stop and ask it. Everything else is a plugin.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	"github.com/picosnitch/picosnitch/host/internal/helper"
	"github.com/picosnitch/picosnitch/host/internal/supervisor/launch"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == launch.Verb { // becoming a plugin: before anything else runs
		os.Exit(launch.Main(os.Args[2:]))
	}
	if len(os.Args) > 1 && os.Args[1] == helper.Verb { // becoming a reader of files that root must not read itself
		os.Exit(helper.Main(os.Args[2:]))
	}
	os.Exit(run())
}

// run is one call of the command. A signal that asks it to end cancels what it does; a second one changes nothing, since
// the daemon writes what it holds.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), endings()...)
	defer stop()
	c := &call{
		out: os.Stdout, errs: os.Stderr, getenv: os.Getenv,
		uid: uint32(os.Geteuid()), localtime: "/etc/localtime",
		hooks: capture.Check,
	}
	return c.run(ctx, os.Args[1:])
}

// endings are the signals that ask the command to end, without one that whoever started it chose to ignore (nohup, &).
func endings() []os.Signal {
	signals := []os.Signal{syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGINT) {
		signals = append(signals, syscall.SIGINT)
	}
	return signals
}
