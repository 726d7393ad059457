package store

import (
	"fmt"
	"time"

	"github.com/picosnitch/picosnitch/sdk"
)

const leastBytes = 16 << 20 // less would not hold what a busy hour needs

// options are the settings as a person writes them.
type options struct {
	Days  int   `json:"retention_days" range:"0..36500" doc:"days that rows are kept; 0 keeps them for ever"`
	Bytes int64 `json:"retention_bytes" range:"0.." doc:"bytes that the database may grow to, about: the oldest rows go first; 0 sets no limit, the least else is 16777216"`
}

func defaults() options { return options{Days: 30} }

// Validate is for [sdk.Decode].
func (o *options) Validate() error {
	if o.Bytes != 0 && o.Bytes < leastBytes {
		return fmt.Errorf("retention_bytes must be 0 (no limit) or at least %d", leastBytes)
	}
	return nil
}

// config is what the options mean.
type config struct {
	retention time.Duration // 0: for ever
	maxBytes  int64         // 0: no limit
}

// parseConfig reads the settings. Its errors are [sdk.ErrConfig] and name the key.
func parseConfig(raw []byte) (config, error) {
	o := defaults()
	if err := sdk.Decode(raw, &o); err != nil {
		return config{}, err
	}
	return config{retention: time.Duration(o.Days) * 24 * time.Hour, maxBytes: o.Bytes}, nil
}
