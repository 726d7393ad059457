package sdk

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"

	"google.golang.org/grpc"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// maxRequestBytes bounds what a plugin accepts in one message: the largest batch, and room for what comes around it.
const maxRequestBytes = 4 << 20

// Serve is the whole of a plugin's main. It answers the host until the host ends it, and returns when
//   - the host asked it to stop, or
//   - standard input is a pipe and reached its end: the host died. The plugin is drained first.
//
// SIGTERM, SIGINT and SIGHUP do not end a plugin: the host, which got them too, drains it and then stops it.
//
// Called with the argument "manifest" the plugin prints its Description as JSON and Serve returns; started by hand
// without it, it says what it is and exits with status 2. A plugin that cannot start says why in one line of JSON on
// standard error and exits with status 1.
//
// Serve installs a JSON logger on standard error as the default of package slog (and thereby of package log).
func Serve(p Plugin) {
	if code := serve(p, os.Args); code != 0 {
		os.Exit(code)
	}
}

// serve returns the exit status.
func serve(p Plugin, args []string) (code int) {
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	defer func() {
		if cause := recover(); cause != nil {
			log.Error("plugin start: panic", "panic", clip(fmt.Sprint(cause)), "stack", string(debug.Stack()))
			code = 1
		}
	}()
	switch {
	case len(args) > 1 && args[1] == "manifest":
		return printManifest(os.Stdout, log, p)
	case os.Getenv(CookieKey) != CookieValue:
		introduce(os.Stderr, filepath.Base(args[0]), p.Describe())
		return 2
	}
	slog.SetDefault(log)
	if err := p.Describe().check(); err != nil {
		log.Error("plugin start: " + err.Error())
		return 1
	}
	return serveHost(newServer(p, log), log)
}

// serveHost answers the host until the gRPC server has stopped.
func serveHost(s *server, log *slog.Logger) int {
	// Nobody reads the channel: signals that find it full are dropped, which is all that is wanted of them.
	ignored := make(chan os.Signal, 1)
	signal.Notify(ignored, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer signal.Stop(ignored)

	hello, err := greet(os.Getenv)
	if err != nil {
		log.Error("plugin start: " + err.Error())
		return 1
	}
	g := grpc.NewServer(append(hello.options, s.options()...)...)
	registerHandshake(g)
	s.register(g)
	s.onAbandon(g.Stop)
	stop := watchHost(os.Stdin, log, func() { s.hostDied(); g.Stop() })
	defer stop()
	if _, err := io.WriteString(os.Stdout, hello.line); err != nil {
		log.Error("plugin start: " + err.Error())
		return 1
	}
	os.Stdout = os.Stderr                                                                     // what the plugin prints is for the log
	if err := g.Serve(hello.listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) { // before it began
		log.Error("plugin service: " + err.Error())
		return 1
	}
	if s.abandoned() {
		return 1
	}
	return 0
}

// introduce tells a person what was started.
func introduce(w io.Writer, command string, d Description) {
	fmt.Fprintf(w, "%s %s is a plugin of picosnitch. It is not started by hand: picosnitch starts it when config.json"+
		" enables it.\nWhat it needs and which settings it takes: %s manifest\n",
		EscapeString(d.Name), EscapeString(d.Version), EscapeString(command))
}

// manifest is a Description as JSON, with what the SDK knows besides.
type manifest struct {
	Name         string          `json:"name"`
	Version      string          `json:"version"`
	Wire         int             `json:"wire"`
	Kinds        []string        `json:"kinds"`
	Features     []string        `json:"features,omitempty"`
	Needs        manifestNeeds   `json:"needs"`
	ConfigSchema json.RawMessage `json:"config_schema,omitempty"`
}

type manifestNeeds struct {
	Network  []string `json:"network,omitempty"`
	Paths    []string `json:"paths,omitempty"`
	MemoryMB int      `json:"memory_mb,omitempty"`
	DiskMB   int      `json:"disk_mb,omitempty"`
}

func printManifest(w io.Writer, log *slog.Logger, p Plugin) int {
	d := p.Describe()
	err := d.check()
	if err == nil {
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		err = encoder.Encode(manifest{
			Name: d.Name, Version: d.Version, Wire: wire.Version, Kinds: kinds(p), Features: features(p, d.Features),
			Needs:        manifestNeeds(d.Needs),
			ConfigSchema: json.RawMessage(d.ConfigSchema),
		})
	}
	if err != nil {
		log.Error("plugin manifest: " + err.Error())
		return 1
	}
	return 0
}
