package main

import (
	"slices"
	"sync"

	"github.com/picosnitch/picosnitch/host/internal/config"
)

// inForce is the configuration that counts now, and what people should know about it.
//
// # Concurrency
//
// Every method may be called from any goroutine.
type inForce struct {
	mu       sync.Mutex
	config   config.Config
	start    *config.Config // that the host was started with
	problems []string       // of config.json
	refused  []string       // plugins that cannot be meant
	later    []string       // keys that changed, and count from the next start on
	remarks  []string       // nothing is wrong with these
}

func (f *inForce) get() config.Config {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.config
}

// set puts a configuration into force, with what is wrong with it.
func (f *inForce) set(c config.Config, problems []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.config, f.problems = c, problems
	if f.start == nil {
		f.start = &c
	}
	f.later = onlyAtStart(*f.start, c)
}

// complain leaves the configuration as it is, and says what is wrong with the file.
func (f *inForce) complain(problems []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.problems = problems
}

func (f *inForce) refuse(plugins []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refused = plugins
}

func (f *inForce) remark(text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.Contains(f.remarks, text) {
		f.remarks = append(f.remarks, text)
	}
}

// messages are what is wrong, and what is only worth knowing.
func (f *inForce) messages() (wrong, remarks []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	wrong = append(slices.Clone(f.problems), f.refused...)
	remarks = slices.Clone(f.remarks)
	for _, key := range f.later {
		remarks = append(remarks, "config.json: \""+oneLine(key)+"\" has changed and counts from the next start on")
	}
	return wrong, remarks
}

// onlyAtStart names the keys that differ and count from a start on alone: the kernel side, the process and the journal are
// opened with them.
func onlyAtStart(before, after config.Config) []string {
	fixed := []string{"DB write limit (seconds)", "Perf ring buffer (pages)", "Set RLIMIT_NOFILE", "Set st_dev mask"}
	var later []string
	for _, key := range config.Changes(before, after) {
		if slices.Contains(fixed, key) {
			later = append(later, key)
		}
	}
	if before.Host.JournalMB != after.Host.JournalMB {
		later = append(later, "Plugins.host.config.journal_mb")
	}
	if before.Host.JournalDays != after.Host.JournalDays {
		later = append(later, "Plugins.host.config.journal_days")
	}
	return later
}
