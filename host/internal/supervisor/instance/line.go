package instance

import (
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/picosnitch/picosnitch/sdk"
)

// parse understands the JSON lines of package slog, and those of go-plugin's own logger in a plugin without the SDK, whose
// keys begin with @. It takes anything else as it is. The text returned is escaped; no
// line, however odd, is an error.
func parse(line []byte, plain slog.Level) (slog.Level, string) {
	var fields map[string]json.RawMessage
	if len(line) == 0 || line[0] != '{' || json.Unmarshal(line, &fields) != nil {
		return plain, sdk.Escape(line)
	}
	var message, word string
	prefix := ""
	if fields["msg"] == nil {
		prefix = "@"
	}
	if json.Unmarshal(fields["msg"], &message) != nil && json.Unmarshal(fields["@message"], &message) != nil {
		return plain, sdk.Escape(line)
	}
	level := plain
	if json.Unmarshal(fields[prefix+"level"], &word) == nil && level.UnmarshalText([]byte(word)) != nil {
		level = plain
	}
	var text strings.Builder
	text.WriteString(sdk.EscapeString(message))
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		switch key {
		case "msg", "level", "time", "@message", "@level", "@timestamp":
			continue
		}
		var value string
		if json.Unmarshal(fields[key], &value) != nil {
			value = string(fields[key])
		}
		text.WriteString(" " + sdk.EscapeString(key) + "=" + sdk.EscapeString(value))
	}
	return level, text.String()
}
