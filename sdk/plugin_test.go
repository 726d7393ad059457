package sdk_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
	"github.com/picosnitch/picosnitch/sdk/sdktest"
)

// asPlugin makes the test binary serve one of the plugins below instead of running tests.
const asPlugin = "PICOSNITCH_SDK_TEST"

func TestMain(m *testing.M) {
	switch plugin := os.Getenv(asPlugin); plugin {
	case "store", "doubles", "insists", "chokes", "forgets", "reorders", "leaks", "meddles", "finds":
		sdk.Serve(newFileStore(plugin))
	case "counter":
		sdk.Serve(counter{})
	case "closing":
		sdk.Serve(&closing{})
	case "panics at start":
		sdk.Serve(&fileStore{name: func() string { panic("no name today") }})
	case "nameless":
		sdk.Serve(&fileStore{name: func() string { return "" }})
	default:
		os.Exit(m.Run())
	}
}

// subject names the plugin that TestThePluginKeepsTheContract looks at, when TestTheSuiteFindsWhatIsWrong runs it.
const subject = "PICOSNITCH_SDK_SUBJECT"

func TestThePluginKeepsTheContract(t *testing.T) {
	t.Parallel()
	plugin := "store"
	if other := os.Getenv(subject); other != "" {
		plugin = other
	}
	sdktest.Run(t, sdktest.Options{Command: []string{os.Args[0]}, Env: []string{asPlugin + "=" + plugin}})
}

// TestTheSuiteFindsWhatIsWrong runs the test above in a process of its own, where it must fail.
func TestTheSuiteFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	for fault, part := range map[string]string{
		"doubles":  "acknowledges_a_stored_batch_again,_stores_it_once",
		"insists":  "takes_a_batch_whose_predecessors_are_lost",
		"chokes":   "skips_kinds_of_records_that_it_does_not_know",
		"forgets":  "resumes_after_kill_-9",
		"reorders": "asks_for_what_is_missing",
		"leaks":    "refuses_wrong_settings",
		"meddles":  "takes_nothing_when_it_is_to_read_only",
		"finds":    "does_what_its_features_say",
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestThePluginKeepsTheContract$/^"+part+"$")
			cmd.Env = append(os.Environ(), subject+"="+fault)
			out, err := cmd.Output()
			if err == nil || !strings.Contains(string(out), "--- FAIL: TestThePluginKeepsTheContract/"+part) {
				t.Errorf("%v: want a failure of %q, got:\n%s", err, part, out)
			}
		})
	}
}

func TestAnInterfaceKeepsTheContract(t *testing.T) {
	t.Parallel()
	sdktest.Run(t, sdktest.Options{Command: []string{os.Args[0]}, Env: []string{asPlugin + "=closing"}})
}

func TestASinkWithoutMemoryKeepsTheContract(t *testing.T) {
	t.Parallel()
	sdktest.Run(t, sdktest.Options{Command: []string{os.Args[0]}, Env: []string{asPlugin + "=counter"}})
}

// newFileStore makes a store with a fault, "store" being none.
func newFileStore(fault string) sdk.Plugin {
	if fault == "finds" {
		return &finder{fileStore{fault: fault}}
	}
	return &fileStore{fault: fault}
}

// finder is a store that finds fault with itself.
type finder struct{ fileStore }

func (*finder) Check(_ context.Context, page func(*wire.CheckPage) error) error {
	return page(&wire.CheckPage{Findings: []string{"a hole"}})
}

// closing is an interface that gives up as soon as there is a file called close in its directory.
type closing struct {
	sdk.Base
	path string
}

func (*closing) Describe() sdk.Description { return sdk.Description{Name: "closing", Version: "1"} }

func (c *closing) Configure(_ context.Context, settings sdk.Settings) error {
	c.path = filepath.Join(settings.Directory, "close")
	return nil
}

func (c *closing) Serve(ctx context.Context) error {
	for ctx.Err() == nil {
		if _, err := os.Stat(c.path); err == nil {
			return errors.New("nobody looks")
		}
		time.Sleep(time.Millisecond)
	}
	return ctx.Err()
}

// fileStore is the smallest store that is exactly-once: it rewrites one file for each batch.
type fileStore struct {
	name  func() string
	fault string // what it does wrong, for TestTheSuiteFindsWhatIsWrong
	path  string
	state fileState

	sequel sdk.Sequel
}

type fileState struct {
	Marks    []sdk.Watermark
	Measures wire.Measures
}

func (s *fileStore) Describe() sdk.Description {
	name := "file"
	if s.name != nil {
		name = s.name()
	}
	d := sdk.Description{Name: name, Version: "1", Features: []string{"tests"}, Needs: sdk.Needs{MemoryMB: 64},
		ConfigSchema: `{"type":"object"}`}
	if s.fault == "leaks" {
		d.ConfigSchema = `{"type":"object","additionalProperties":false}`
	}
	return d
}

func (s *fileStore) Configure(_ context.Context, settings sdk.Settings) error {
	if s.fault == "leaks" && string(settings.Config) != "{}" {
		return fmt.Errorf("%w: no such settings: %s", sdk.ErrConfig, settings.Config)
	}
	s.path = filepath.Join(settings.Directory, "state.json")
	if settings.ReadOnly && s.fault == "meddles" {
		_ = os.WriteFile(s.path, []byte("{}"), 0o600)
	}
	text, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open state: %w", err)
	}
	return json.Unmarshal(text, &s.state)
}

func (s *fileStore) Health(context.Context) error { return nil }

func (s *fileStore) Drain(context.Context) error {
	return os.WriteFile(filepath.Join(filepath.Dir(s.path), "drained"), nil, 0o600)
}

func (s *fileStore) Watermarks(context.Context) ([]sdk.Watermark, error) { return s.state.Marks, nil }

func (s *fileStore) Apply(_ context.Context, b *sdk.Batch) error {
	mark := s.mark(b.Epoch)
	if s.fault == "insists" {
		s.sequel = sdk.Sequel{}
	}
	store, err := s.sequel.Decide(b, mark.Sequence)
	if doubles, reorders := err == nil && s.fault == "doubles", err != nil && s.fault == "reorders"; !store && !doubles && !reorders {
		return err
	}
	mark.Sequence = b.Last
	for r, row := range sdk.Rows(b.Batch) {
		if f := r.GetFlow(); f != nil {
			s.state.Measures.Sent += uint64(row[1].Number())
			s.state.Measures.Rows++
		} else if r.GetKind() == nil && s.fault == "chokes" {
			return &sdk.Rejection{Sequences: []uint64{r.GetSequence()}}
		}
	}
	if s.fault == "forgets" && b.First > 1 {
		return nil
	}
	s.sequel.Stored()
	return s.save()
}

func (s *fileStore) save() error {
	text, err := json.Marshal(&s.state)
	if err != nil {
		return err
	}
	if err := os.WriteFile(s.path+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(s.path+".new", s.path)
}

func (s *fileStore) mark(epoch sdk.Epoch) *sdk.Watermark {
	for i := range s.state.Marks {
		if s.state.Marks[i].Epoch == epoch {
			return &s.state.Marks[i]
		}
	}
	s.state.Marks = append(s.state.Marks, sdk.Watermark{Epoch: epoch})
	return &s.state.Marks[len(s.state.Marks)-1]
}

func (s *fileStore) Query(_ context.Context, _ *wire.Query, page func(*wire.QueryPage) error) error {
	return page(&wire.QueryPage{Rows: []*wire.QueryRow{{Measures: &s.state.Measures}}})
}
