package chaos

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
)

// Deeds that no plan has.
const (
	start   kind = "start"           // the first one of a daemon
	corrupt kind = "corrupt-journal" // while the host is down
)

// deed is something that was done.
type deed struct {
	Kind     kind
	Plugin   string
	From, To time.Time // To is zero while it lasts
	Note     string    // what came of it
}

// diary is what was done when.
type diary struct {
	begun time.Time
	deeds []*deed
}

// begin notes that something is done from now on.
func (d *diary) begin(kind kind, plugin, note string) *deed {
	if d.begun.IsZero() {
		d.begun = time.Now()
	}
	deed := &deed{Kind: kind, Plugin: plugin, From: time.Now(), Note: note}
	d.deeds = append(d.deeds, deed)
	return deed
}

// once notes something that is over at once.
func (d *diary) once(kind kind, plugin, note string) { d.begin(kind, plugin, note).end("") }

// end notes that it is over, and what else is to be said.
func (d *deed) end(note string) {
	d.To = time.Now()
	d.Note = strings.TrimPrefix(strings.TrimSuffix(d.Note+"; "+note, "; "), "; ")
}

// String is a table for a person.
func (d *diary) String() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "AT\tFOR\tDONE\tTO\tNOTE")
	for _, deed := range d.deeds {
		lasted := "lasts"
		if !deed.To.IsZero() {
			lasted = deed.To.Sub(deed.From).Round(time.Millisecond).String()
		}
		fmt.Fprintf(w, "%v (%s)\t%s\t%s\t%s\t%s\n", deed.From.Sub(d.begun).Round(time.Millisecond),
			deed.From.Format("15:04:05.000"), lasted, deed.Kind, deed.Plugin, deed.Note)
	}
	_ = w.Flush() // a strings.Builder takes everything
	return b.String()
}
