// Command escape is a plugin that tries to get out. The host's escape tests build it, run it in the sandbox and read its
// report: a line of JSON per attempt that says how it failed, or that it did not. Run as "escape bare TARGETS" without a
// sandbox, the same attempts succeed, which shows that they are real ones.
//
// What cannot be configured, since it happens before there is a connection, goes by the name that the plugin is started
// under: see handshakes.go.
//
// It does no harm beyond what it is pointed at, but it is no program to run by hand.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/picosnitch/picosnitch/sdk"
)

// targets is where the attempts go, as the test has made them.
type targets struct {
	Mode      string // what to do, see [escapist.Configure]
	Directory string // the plugin's own

	Secrets  map[string]string // name of the attempt -> a file that must stay secret
	Sockets  map[string]string // name of the attempt -> a unix socket that must not be reached
	Abstract string            // an abstract socket
	TCP, UDP string            // where somebody listens
	Allowed  string            // a peer that was granted, with its name
	Process  int               // one of the host's
	Device   string            // a path that leads to a terminal
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == "bare" {
		if err := bare(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, "escape:", err)
			os.Exit(1)
		}
		return
	}
	if misbehave(filepath.Base(os.Args[0])) {
		return
	}
	sdk.Serve(&escapist{})
}

// bare makes the attempts as whoever calls.
func bare(text string) error {
	var t targets
	if err := json.Unmarshal([]byte(text), &t); err != nil {
		return fmt.Errorf("read targets: %w", err)
	}
	return json.NewEncoder(os.Stdout).Encode(try(t))
}

// escapist is a sink that forgets.
type escapist struct{ sdk.Base }

// Describe says what the plugin pretends to be.
func (*escapist) Describe() sdk.Description { return sdk.Description{Name: "escape", Version: "1.0.0"} }

// Configure makes the attempts that the mode names; those that never end go on in the background.
func (*escapist) Configure(_ context.Context, s sdk.Settings) error {
	var t targets
	if err := json.Unmarshal(s.Config, &t); err != nil {
		return fmt.Errorf("%w: %w", sdk.ErrConfig, err)
	}
	t.Directory = s.Directory
	switch t.Mode {
	case "try":
		return report(t.Directory, try(t))
	case "network":
		return report(t.Directory, tryNetwork(t))
	case "forks":
		go func() { _ = report(t.Directory, map[string]string{"forks": forkBomb()}) }() // the test misses it
	case "memory":
		go memoryBomb()
	case "disk":
		go fill(t.Directory)
	case "sockets":
		go fill(os.Getenv("PLUGIN_UNIX_SOCKET_DIR"))
	case "unlinked":
		go fillUnlinked(t.Directory)
	case "flood":
		go flood()
	case "forge":
		forge()
	case "orphan":
		return orphan()
	}
	return nil
}

// Apply forgets.
func (*escapist) Apply(context.Context, *sdk.Batch) error { return nil }

// report writes what happened where the host's owner can read it: whole, or not at all.
func report(directory string, results map[string]string) error {
	text, err := json.Marshal(results)
	if err != nil {
		return err
	}
	path := filepath.Join(directory, "report.json")
	if err := os.WriteFile(path+".new", text, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
