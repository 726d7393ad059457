package store

import (
	"context"
	"fmt"
	"time"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// intake is an import that is going on.
type intake struct {
	store    *Store
	host     []byte // whose rows they become, see [intake.begin]
	epoch    sdk.Epoch
	name     string
	records  []*wire.Record
	total    int64
	done     int64
	skipped  int64
	warning  string // that rows will not stay
	progress func(*wire.ImportProgress) error
}

// begin finds out how many rows of the file are stored already, and whose: whoever imports the rest, they stay theirs. A new
// file's rows belong to this host; a store that is opened without the daemon is not told which that is, and takes the one
// whose rows it got last.
func (i *intake) begin(ctx context.Context) (have int64, err error) {
	if err := i.store.take(ctx); err != nil {
		return 0, err
	}
	defer i.store.give()
	if i.store.writer == nil {
		return 0, errNotOpen
	}
	c := i.store.writer.conn
	known, err := c.blob("SELECT host_id FROM epochs WHERE epoch = ? AND origin <> ''", &i.host, i.epoch[:])
	if err == nil && !known && i.store.settings.HostID == [16]byte{} {
		known, err = c.blob("SELECT host_id FROM epochs ORDER BY origin <> '', id DESC LIMIT 1", &i.host)
	}
	if err != nil {
		return 0, err
	}
	if !known {
		i.host = i.store.settings.HostID[:]
	}
	have, _, err = c.number("SELECT sequence FROM epochs WHERE host_id = ? AND epoch = ?", i.host, i.epoch[:])
	return have, err
}

// warn says, before anything is stored, how many rows of the file are too old to be kept.
func (i *intake) warn(ctx context.Context, f *foreign) error {
	retention := i.store.config.retention
	if retention == 0 || i.skipped >= i.total {
		return nil
	}
	n, err := f.before(ctx, i.store.now().Add(-retention))
	if err != nil || n == 0 {
		return err
	}
	i.warning = fmt.Sprintf("%d of %d rows of the file are older than the %d days that rows are kept (`DB retention (days)`): "+
		"they are imported, and deleted again soon after", n, i.total, int64(retention/(24*time.Hour)))
	return i.tell(false, i.warning)
}

// result says what became of the file.
func (i *intake) result() string {
	text := fmt.Sprintf("%d rows imported, %d were there before", i.done-i.skipped, i.skipped)
	if i.warning != "" {
		text += "; " + i.warning
	}
	return text
}

// flush stores the rows that were gathered, as a batch.
func (i *intake) flush(ctx context.Context) error {
	if len(i.records) == 0 {
		return nil
	}
	b := &wire.Batch{HostId: i.host, Epoch: i.epoch[:], First: uint64(i.done) + 1,
		Last: uint64(i.done) + uint64(len(i.records)), Records: i.records}
	for n, r := range i.records {
		r.Sequence = b.First + uint64(n)
	}
	if err := i.apply(ctx, &sdk.Batch{Batch: b, Epoch: i.epoch}); err != nil {
		return err
	}
	i.done += int64(len(i.records))
	i.records = nil
	if err := i.tell(false, ""); err != nil {
		return err
	}
	return pause(ctx, importPause)
}

func (i *intake) apply(ctx context.Context, b *sdk.Batch) error {
	if err := i.store.take(ctx); err != nil {
		return err
	}
	defer i.store.give()
	w := i.store.writer
	if w == nil {
		return errNotOpen
	}
	var chain sdk.Hash
	row := make([]byte, 0, len(chain))
	if found, err := w.conn.blob("SELECT chain FROM epochs WHERE host_id = ? AND epoch = ?", &row, b.HostId, i.epoch[:]); err != nil {
		return err
	} else if found {
		copy(chain[:], row)
	}
	sdk.Seal(b.Batch, chain)
	w.origin = i.name
	defer func() { w.origin = "" }()
	return w.apply(ctx, b)
}

func (i *intake) tell(done bool, text string) error {
	return i.progress(&wire.ImportProgress{Rows: uint64(i.done), Total: uint64(i.total), Skipped: uint64(i.skipped), Done: done, Text: text})
}
