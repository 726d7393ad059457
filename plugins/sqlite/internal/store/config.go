package store

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/picosnitch/picosnitch/sdk"
)

// configSchema describes the settings, see [config].
const configSchema = `{
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "retention_days": {
      "type": "integer", "minimum": 0, "maximum": 36500, "default": 30,
      "description": "days that rows are kept; 0 keeps them for ever"
    },
    "retention_bytes": {
      "type": "integer", "minimum": 0, "default": 0,
      "description": "bytes that the database may grow to, about: the oldest rows go first; 0 sets no limit, the least else is 16777216"
    }
  }
}`

const (
	defaultRetention = 30
	maxRetention     = 36500
	leastBytes       = 16 << 20 // less would not hold what a busy hour needs
)

// config is what a person may set.
type config struct {
	retention time.Duration // 0: for ever
	maxBytes  int64         // 0: no limit
}

// parseConfig reads the settings. Its errors are [sdk.ErrConfig] and name the key.
func parseConfig(raw []byte) (config, error) {
	var keys map[string]json.RawMessage
	if len(bytes.TrimSpace(raw)) > 0 {
		if err := json.Unmarshal(raw, &keys); err != nil {
			return config{}, fmt.Errorf("%w: settings of sqlite are not a JSON object: %w", sdk.ErrConfig, err)
		}
	}
	days := defaultRetention
	if value, ok := keys["retention_days"]; ok {
		if err := json.Unmarshal(value, &days); err != nil || days < 0 || days > maxRetention || string(value) == "null" {
			return config{}, fmt.Errorf("%w: retention_days must be a whole number from 0 (keep for ever) to %d",
				sdk.ErrConfig, maxRetention)
		}
	}
	delete(keys, "retention_days")
	bytesLimit := int64(0)
	if value, ok := keys["retention_bytes"]; ok {
		if err := json.Unmarshal(value, &bytesLimit); err != nil || bytesLimit != 0 && bytesLimit < leastBytes || string(value) == "null" {
			return config{}, fmt.Errorf("%w: retention_bytes must be 0 (no limit) or a whole number of bytes from %d on",
				sdk.ErrConfig, leastBytes)
		}
	}
	delete(keys, "retention_bytes")
	if len(keys) > 0 {
		unknown := make([]string, 0, len(keys))
		for k := range keys {
			unknown = append(unknown, sdk.EscapeString(k))
		}
		sort.Strings(unknown)
		return config{}, fmt.Errorf("%w: sqlite has no setting %q; it has retention_days and retention_bytes",
			sdk.ErrConfig, strings.Join(unknown, ", "))
	}
	return config{retention: time.Duration(days) * 24 * time.Hour, maxBytes: bytesLimit}, nil
}
