package chaos

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"

	"github.com/picosnitch/picosnitch/test/lab"
)

// damage does something to the journal's file while the host is down.
type damage struct {
	Name string
	do   func(random *rand.Rand, f *os.File, used []int64) error
}

// damages lists what can be done.
func damages() []damage {
	return []damage{{"flipped-tail", flipTail}, {"truncated", truncate}}
}

// inflict damages a file. It may not be open anywhere.
func (d damage) inflict(random *rand.Rand, path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("damage journal: %w", err)
	}
	defer f.Close()
	used, err := usedPages(f)
	if err == nil {
		err = d.do(random, f, used)
	}
	if err != nil {
		return fmt.Errorf("damage journal: %w", err)
	}
	return nil
}

// pageSize is what bbolt writes at once.
const pageSize = 4096

// usedPages are the offsets of all pages that hold something.
func usedPages(f *os.File) (offsets []int64, err error) {
	page, empty := make([]byte, pageSize), make([]byte, pageSize)
	for at := int64(0); ; at += pageSize {
		_, err := f.ReadAt(page, at)
		switch {
		case errors.Is(err, io.EOF) && len(offsets) > 0:
			return offsets, nil
		case err != nil:
			return nil, err
		case !bytes.Equal(page, empty):
			offsets = append(offsets, at)
		}
	}
}

// flipTail changes a byte here and there in the last third of what is used.
func flipTail(random *rand.Rand, f *os.File, used []int64) error {
	for _, page := range used[len(used)*2/3:] {
		at, one := page+random.Int64N(pageSize), make([]byte, 1)
		if _, err := f.ReadAt(one, at); err != nil {
			return err
		}
		one[0] ^= byte(1 + random.IntN(255))
		if _, err := f.WriteAt(one, at); err != nil {
			return err
		}
	}
	return nil
}

// truncate leaves between a half and all of what is used.
func truncate(random *rand.Rand, f *os.File, used []int64) error {
	half := used[len(used)-1] / 2
	return f.Truncate(half + random.Int64N(half))
}

// missed are the records that another store has and this one has not, although none of its gaps names them.
func missed(store string, has contents, all map[string]bool) []difference {
	mine := map[string]bool{}
	for _, r := range has.Rows {
		mine[r.ID] = true
	}
	var out []difference
	for id := range all {
		if !mine[id] && !slices.ContainsFunc(has.Gaps, func(g lab.Gap) bool { return names(g, id) }) {
			out = append(out, difference{store, "", "record", id, "neither it nor a gap"})
		}
	}
	return out
}

// names tells whether a gap of a damaged journal is about a record: host/epoch/sequence.
func names(g lab.Gap, id string) bool {
	part := strings.Split(id, "/")
	const all = 3
	var sequence uint64
	if len(part) != all || g.Reason != "journal-corrupt" || g.Epoch != part[1] {
		return false
	}
	if _, err := fmt.Sscan(part[2], &sequence); err != nil {
		return false
	}
	return g.First <= sequence && sequence <= g.Last
}

// unexplained gives a line if bytes are missing in a store, and no gap tells of a damaged journal.
func unexplained(store string, truth map[program]moved, c contents) []difference {
	found := differencesOf(store, truth, c.Rows)
	tells := func(g lab.Gap) bool { return g.Reason == "journal-corrupt" }
	if len(found) == 0 || slices.ContainsFunc(c.Gaps, tells) {
		return nil
	}
	return append(found, difference{store, "", "gap", "journal-corrupt", fmt.Sprintf("%d others", len(c.Gaps))})
}
