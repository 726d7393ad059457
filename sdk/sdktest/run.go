package sdktest

import (
	"context"
	"encoding/json"
	"os/exec"
	"slices"
	"testing"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Options say how to start the plugin under test.
type Options struct {
	Command []string // the binary and its arguments
	Env     []string // beside PATH and what the handshake needs
	Config  string   // JSON object for Configure; empty: {}
	// Count tells how many Flow records the plugin keeps in its directory, which it may be using meanwhile. nil: a
	// store is asked, of any other sink it is not checked that it stores nothing twice.
	Count func(directory string) (int, error)
}

// Run holds a plugin to the contract. Each part is a subtest of its own, with a new directory. Which parts are run follows
// from what the plugin says that it is.
func Run(t *testing.T, o Options) {
	t.Helper()
	t.Run("describes itself", func(t *testing.T) { describes(t, o) })
	t.Run("prints its manifest", func(t *testing.T) { manifest(t, o) })
	t.Run("is configured once", func(t *testing.T) { configuredOnce(t, o) })
	t.Run("refuses wrong settings", func(t *testing.T) { refusesSettings(t, o) })
	kinds := start(t, o).describe().GetKinds()
	if slices.Contains(kinds, "sink") {
		runSink(t, o, slices.Contains(kinds, "store"))
	} else {
		t.Run("drains", func(t *testing.T) { drainsSoon(t, o) })
	}
	if slices.Contains(kinds, "verdicts") {
		t.Run("judges", func(t *testing.T) { judges(t, o) })
	}
	if slices.Contains(kinds, "locator") {
		t.Run("locates", func(t *testing.T) { locates(t, o) })
	}
}

func describes(t *testing.T, o Options) {
	d := start(t, o).describe()
	if d.GetName() == "" || d.GetVersion() == "" || len(d.GetKinds()) == 0 {
		t.Errorf("name %q, version %q, kinds %q: want all three", d.GetName(), d.GetVersion(), d.GetKinds())
	}
	if d.GetWire() != wire.Version {
		t.Errorf("wire %d, want %d", d.GetWire(), wire.Version)
	}
	if schema := d.GetConfigSchema(); schema != "" && !json.Valid([]byte(schema)) {
		t.Errorf("config schema is not JSON: %s", schema)
	}
}

func manifest(t *testing.T, o Options) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, o.Command[0], append(slices.Clone(o.Command[1:]), "manifest")...)
	cmd.Env = append([]string{}, o.Env...) // nil would mean ours
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%q manifest: %v", o.Command, err)
	}
	var m struct {
		Name string
		Wire int
	}
	if err := json.Unmarshal(out, &m); err != nil || m.Name == "" || m.Wire != wire.Version {
		t.Errorf("manifest has name %q and wire %d (%v), want a name and %d:\n%s", m.Name, m.Wire, err, wire.Version, out)
	}
}

func configuredOnce(t *testing.T, o Options) {
	p, s, directory := start(t, o), NewStream(1), t.TempDir()
	if slices.Contains(p.describe().GetKinds(), "sink") {
		if code := p.refused(NewStream(1).Next(Records(1, 1))); code != codes.FailedPrecondition {
			t.Errorf("apply before configure: %v, want %v", code, codes.FailedPrecondition)
		}
	}
	if marks := p.configure(o, s, directory); len(marks) != 0 {
		t.Errorf("an empty directory has the watermarks %v", marks)
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	_, err := p.Plugin.Configure(ctx, &wire.ConfigureRequest{
		HostId: s.Host[:], BootId: make([]byte, 16), Epoch: s.Epoch[:], Config: o.Config, Directory: directory})
	if status.Code(err) != codes.FailedPrecondition {
		t.Errorf("second configure: %v, want %v", err, codes.FailedPrecondition)
	}
	health, err := p.Plugin.Health(ctx, &wire.HealthRequest{})
	if err != nil || health.GetState() != wire.HealthResponse_OK {
		t.Errorf("health: %v, %v", health, err)
	}
}
