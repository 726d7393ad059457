package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// differenceSQL counts the rows of a family's width that are not the sums of their flows, or are missing. Where retention
// has begun to delete, roll-ups do not count.
func differenceSQL(f family, width int64) string {
	floor, until := "floor", ""
	switch {
	case width == minuteWidth:
		floor = "minutes"
	case slices.Contains(f.wide, width):
		until = fmt.Sprintf(" AND (bucket + %d) * 1000000000 <= (SELECT value FROM state WHERE name = 'settled')", width)
	}
	var keys, columns, list []string
	for _, k := range f.keys {
		if k == "program" {
			keys = append(keys, "o.program AS program")
		} else {
			keys = append(keys, "f."+k+" AS "+k)
		}
		columns = append(columns, k)
	}
	for i, m := range measures() {
		name := sumColumns()[i]
		if m == "" {
			columns, list = append(columns, "count(*) AS "+name), append(list, name)
			continue
		}
		columns, list = append(columns, "sum("+m+") AS "+name), append(list, name)
	}
	stored := fmt.Sprintf("SELECT bucket, %s, %s FROM %s WHERE width = %d AND bucket * 1000000000 >= (SELECT value FROM state WHERE name = '%s')",
		strings.Join(f.keys, ", "), strings.Join(list, ", "), f.table, width, floor)
	counted := fmt.Sprintf(`SELECT bucket, %s FROM (SELECT %s AS bucket, %s, f.sent, f.received, f.sends, f.receives, f.connects,
f.accepts, f.failures FROM flows f JOIN windows w ON w.id = f.window JOIN actors o ON o.id = f.actor WHERE f.kind < %d)
WHERE bucket * 1000000000 >= (SELECT value FROM state WHERE name = '%s')%s GROUP BY bucket, %s`, strings.Join(columns, ", "),
		bucketSQL("w.ended", width), strings.Join(keys, ", "), kindOther, floor, until, strings.Join(f.keys, ", "))
	return fmt.Sprintf("SELECT (SELECT count(*) FROM (%[1]s EXCEPT %[2]s)) + (SELECT count(*) FROM (%[2]s EXCEPT %[1]s))", stored, counted)
}

// checkLimit is how many findings of one sort are told.
const checkLimit = 100

// Check looks for damage, see [sdk.Checker]: pages, references, roll-ups against the rows, and the hash chain. Where damage
// keeps one of them from its end, that is a finding.
func (s *Store) Check(ctx context.Context, page func(*wire.CheckPage) error) error {
	return s.reading(ctx, func(tx *sql.Tx) error {
		facts, err := checkFacts(ctx, tx)
		if err != nil && !corrupt(err) {
			return err
		}
		if err := page(&wire.CheckPage{Facts: append([]string{"file: " + s.path}, facts...)}); err != nil {
			return err
		}
		for _, part := range []func(context.Context, *sql.Tx, func(string) error) error{checkPages, checkReferences, checkSums, checkChain} {
			if err := checkPart(ctx, tx, part, page); err != nil {
				return err
			}
		}
		return nil
	})
}

// checkPart tells the findings of one sort.
func checkPart(ctx context.Context, tx *sql.Tx, part func(context.Context, *sql.Tx, func(string) error) error,
	page func(*wire.CheckPage) error) error {
	count := 0
	err := part(ctx, tx, func(finding string) error {
		if count++; count > checkLimit {
			return nil
		}
		return page(&wire.CheckPage{Findings: []string{finding}})
	})
	if corrupt(err) {
		err = page(&wire.CheckPage{Findings: []string{err.Error()}})
	}
	if err == nil && count > checkLimit {
		err = page(&wire.CheckPage{Findings: []string{fmt.Sprintf("and %d more of the last sort", count-checkLimit)}})
	}
	return err
}

func checkFacts(ctx context.Context, tx *sql.Tx) ([]string, error) {
	var facts []string
	for _, f := range [][2]string{
		{"version", "SELECT user_version FROM pragma_user_version"},
		{"bytes", "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"},
		{"bytes free inside", "SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size"},
		{"rows", "SELECT count(*) FROM flows"},
		{"batches", "SELECT count(*) FROM batches"},
		{"runs of the host", "SELECT count(*) FROM epochs WHERE origin = ''"},
		{"files imported", "SELECT count(*) FROM epochs WHERE origin <> ''"},
		{"oldest row", "SELECT coalesce(datetime(min(ended) / 1000000000, 'unixepoch') || ' UTC', 'none') FROM windows"},
		{"newest row", "SELECT coalesce(datetime(max(ended) / 1000000000, 'unixepoch') || ' UTC', 'none') FROM windows"},
	} {
		var value any
		if err := tx.QueryRowContext(ctx, f[1]).Scan(&value); err != nil {
			return facts, fmt.Errorf("check: %w", err)
		}
		facts = append(facts, fmt.Sprintf("%s: %v", f[0], value))
	}
	return facts, nil
}

func checkPages(ctx context.Context, tx *sql.Tx, found func(string) error) error {
	return eachText(ctx, tx, "PRAGMA integrity_check(100)", func(text string) error {
		if text == "ok" {
			return nil
		}
		return found("page or row damaged: " + text)
	})
}

func checkReferences(ctx context.Context, tx *sql.Tx, found func(string) error) error {
	return eachText(ctx, tx, `SELECT "table" || ' row ' || coalesce(rowid, '?') || ' refers to a row of ' || parent || ' that is not there'
FROM pragma_foreign_key_check`, found)
}

func checkSums(ctx context.Context, tx *sql.Tx, found func(string) error) error {
	for _, f := range families() {
		for _, width := range f.widths() {
			var n int64
			if err := tx.QueryRowContext(ctx, differenceSQL(f, width)).Scan(&n); err != nil {
				return fmt.Errorf("check %s: %w", f.table, err)
			}
			if n > 0 {
				if err := found(fmt.Sprintf("%s of %d s differs from the rows in %d places", f.table, width, n)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// checkChain looks whether each batch follows the one before it, and whether its rows give its root.
func checkChain(ctx context.Context, tx *sql.Tx, found func(string) error) error {
	var before *wire.BatchEvidence
	return eachProof(ctx, tx, &wire.EvidenceRequest{}, func(e *wire.BatchEvidence) error {
		name := fmt.Sprintf("run %x, batch %d..%d: ", e.GetEpoch(), e.GetFirst(), e.GetLast())
		if b := before; b != nil && string(b.GetEpoch()) == string(e.GetEpoch()) && b.GetLast()+1 == e.GetFirst() &&
			len(b.GetRoot()) > 0 && len(e.GetPrevious()) > 0 { // without these it is no link of the chain
			if chain := chainOf(b); string(chain[:]) != string(e.GetPrevious()) {
				if err := found(name + "does not follow the one before it: one of them was altered"); err != nil {
					return err
				}
			}
		}
		before = e
		if e.GetState() != wire.BatchEvidence_ALTERED {
			return nil
		}
		if n := len(e.GetExtra()); n > 0 {
			return found(fmt.Sprintf("run %x: %d or more rows are of no batch, or there twice, the first is record %d", e.GetEpoch(), n, e.GetExtra()[0]))
		}
		if n := len(e.GetMissing()); n > 0 {
			return found(fmt.Sprintf("%s%d or more of its records are missing, the first is %d", name, n, e.GetMissing()[0]))
		}
		return found(name + "its records are not those that were delivered")
	})
}

// chainOf is the hash of a batch, see [sdk.Chain].
func chainOf(e *wire.BatchEvidence) sdk.Hash {
	var previous, root sdk.Hash
	copy(previous[:], e.GetPrevious())
	copy(root[:], e.GetRoot())
	return sdk.Chain(&wire.Batch{HostId: e.GetHostId(), Epoch: e.GetEpoch(), First: e.GetFirst(), Last: e.GetLast()}, previous, root)
}

// eachText calls take with each row of a statement that gives one text.
func eachText(ctx context.Context, tx *sql.Tx, statement string, take func(string) error) error {
	rows, err := tx.QueryContext(ctx, statement)
	if err != nil {
		return fmt.Errorf("check: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return fmt.Errorf("check: %w", err)
		}
		if err := take(text); err != nil {
			return err
		}
	}
	return rows.Err()
}
