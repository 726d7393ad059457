package sdk

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// decodeSettings checks what the host sent, so that a plugin need not.
func decodeSettings(r *wire.ConfigureRequest) (Settings, error) {
	s := Settings{
		Config:     []byte(r.GetConfig()),
		Directory:  r.GetDirectory(),
		ReadOnly:   r.GetReadOnly(),
		HostSocket: r.GetHostSocket(),
	}
	for _, id := range []struct {
		name string
		to   *[16]byte
		from []byte
	}{
		{"host_id", &s.HostID, r.GetHostId()},
		{"boot_id", &s.BootID, r.GetBootId()},
		{"epoch", (*[16]byte)(&s.Epoch), r.GetEpoch()},
	} {
		if len(id.from) != len(id.to) {
			return Settings{}, fmt.Errorf("%s: %d bytes, want %d", id.name, len(id.from), len(id.to))
		}
		copy(id.to[:], id.from)
	}
	if len(bytes.TrimSpace(s.Config)) == 0 {
		s.Config = []byte("{}")
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(s.Config, &object); err != nil || object == nil {
		return Settings{}, errors.New("config: not a JSON object") // without the text: it may hold a secret
	}
	return s, nil
}
