package sdktest

import (
	"context"
	"encoding/json"
	"maps"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// secret stands in the wrong settings that a plugin gets; none of its errors may show it.
const secret = "sdktest-hunter2"

// refusesSettings tries wrong settings, one incarnation each, since Configure comes once in a process's life. What is wrong
// follows from the plugin's own schema.
func refusesSettings(t *testing.T, o Options) {
	wrong := map[string]string{"": `["` + secret + `"]`}
	maps.Copy(wrong, wrongTypes(t, o, start(t, o).describe().GetConfigSchema()))
	for key, config := range wrong {
		p, s := start(t, o), NewStream(1)
		ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
		_, err := p.Plugin.Configure(ctx, &wire.ConfigureRequest{
			HostId: s.Host[:], BootId: make([]byte, 16), Epoch: s.Epoch[:], Config: config, Directory: t.TempDir(),
		})
		cancel()
		p.kill()
		switch message := status.Convert(err).Message(); {
		case status.Code(err) != codes.InvalidArgument:
			t.Errorf("configure with %s: %v, want %v", config, err, codes.InvalidArgument)
		case !strings.Contains(message, key):
			t.Errorf("configure with %s: the message does not name %q: %s", config, key, message)
		case strings.Contains(message, secret):
			t.Errorf("configure with %s: the message shows the value, which may be a secret: %s", config, message)
		}
	}
}

// wrongTypes makes, by key, settings in which that one has a wrong type or is not known.
func wrongTypes(t *testing.T, o Options, schema string) map[string]string {
	var described struct {
		AdditionalProperties any
		Properties           map[string]struct{ Type any }
	}
	if schema == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(schema), &described); err != nil {
		t.Fatalf("config schema: %v", err)
	}
	wrong := map[string]string{}
	if described.AdditionalProperties == false {
		wrong["sdktest_no_such_key"] = with(t, o, "sdktest_no_such_key", secret)
	}
	for key, property := range described.Properties {
		switch property.Type {
		case "integer", "number", "boolean", "object", "array":
			wrong[key] = with(t, o, key, secret)
		case "string":
			wrong[key] = with(t, o, key, []string{secret})
		}
	}
	return wrong
}

// with is the settings of the options with one key changed.
func with(t *testing.T, o Options, key string, value any) string {
	object := map[string]any{}
	if o.Config != "" {
		if err := json.Unmarshal([]byte(o.Config), &object); err != nil {
			t.Fatalf("Options.Config: %v", err)
		}
	}
	object[key] = value
	text, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
