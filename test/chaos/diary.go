package chaos

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
)

// Deeds that no plan has.
const (
	Start   Kind = "start"           // the first one of a daemon
	Corrupt Kind = "corrupt-journal" // while the host is down
)

// Deed is something that was done.
type Deed struct {
	Kind     Kind
	Plugin   string
	From, To time.Time // To is zero while it lasts
	Note     string    // what came of it
}

// Diary is what was done when.
type Diary struct {
	begun time.Time
	deeds []*Deed
}

// Begin notes that something is done from now on.
func (d *Diary) Begin(kind Kind, plugin, note string) *Deed {
	if d.begun.IsZero() {
		d.begun = time.Now()
	}
	deed := &Deed{Kind: kind, Plugin: plugin, From: time.Now(), Note: note}
	d.deeds = append(d.deeds, deed)
	return deed
}

// Once notes something that is over at once.
func (d *Diary) Once(kind Kind, plugin, note string) { d.Begin(kind, plugin, note).End("") }

// End notes that it is over, and what else is to be said.
func (d *Deed) End(note string) {
	d.To = time.Now()
	d.Note = strings.TrimPrefix(strings.TrimSuffix(d.Note+"; "+note, "; "), "; ")
}

// String is a table for a person.
func (d *Diary) String() string {
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
