// Command bench measures a real daemon with its sqlite plugin: start, memory and processor time when idle, how fast what
// was counted becomes rows, and what is left of the machine's own speed while it watches. It needs root, starts daemons of
// its own, prints a table for docs/performance.md, and judges nothing.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	o := options{}
	flag.StringVar(&o.bin, "bin", "bin/picosnitch", "the daemon")
	flag.StringVar(&o.only, "only", "", "rows, idle, plugins or ratio: nothing else")
	flag.DurationVar(&o.idle, "idle", 60*time.Second, "how long to watch the idle daemon")
	flag.IntVar(&o.peers, "peers", 15000, "rows to make")
	flag.IntVar(&o.rounds, "rounds", 9, "how often to compare with and without the daemon; the median counts")
	flag.DurationVar(&o.length, "length", 2*time.Second, "of each transfer that is compared")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type options struct {
	bin, only     string
	idle, length  time.Duration
	peers, rounds int
}

func run(ctx context.Context, o options) error {
	fmt.Print("| What | Measured | Aim |\n| --- | --- | --- |\n")
	for _, part := range []struct {
		name string
		run  func() error
	}{
		{"rows", func() error { return with(ctx, o.bin, 1, func(d *daemon) error { return d.rows(o.peers) }) }},
		{"idle", func() error { return with(ctx, o.bin, 10, func(d *daemon) error { return d.idle(ctx, o.idle) }) }},
		{"plugins", func() error {
			return prepared(ctx, o.bin, 10, func(d *daemon) error { return d.everyPlugin(ctx) },
				func(d *daemon) error { return d.memories(ctx, o.idle) })
		}},
		{"ratio", func() error { return ratios(ctx, o) }},
	} {
		if o.only != "" && o.only != part.name {
			continue
		}
		if err := part.run(); err != nil {
			return fmt.Errorf("measure %s: %w", part.name, err)
		}
	}
	return nil
}

// figure prints a line of the table.
func figure(what, aim, measured string, values ...any) {
	fmt.Printf("| %s | %s | %s |\n", what, fmt.Sprintf(measured, values...), aim)
}

func wait(what string, condition func() bool) error {
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if condition() {
			return nil
		}
	}
	return fmt.Errorf("waited 60 s until %s", what)
}
