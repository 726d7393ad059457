package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/host/internal/api"
	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

const dbLong = `Look after the history: look for damage, copy it, give back space, take it out and put it in. With the daemon running it is
asked; with the daemon stopped, the store is started for the one job, as the owner of the configuration, so that no root
is needed.

Files are opened by this command as you, and written under another name until they are whole; - is standard output. A file
that is written is for its owner alone (mode 0600).

The exit code is 0 if all is well, 1 after a failure or if db check has findings, 2 if the request cannot be fulfilled.`

const dbExample = `  picosnitch db check
  picosnitch db backup ~/snitch-$(date +%F).db
  picosnitch db export --format json --since 7d - | jq .exe
  picosnitch db import ~/old/picosnitch.db`

// dbVerb is db.
func (c *call) dbVerb() *cobra.Command {
	var store string
	verb := &cobra.Command{
		Use: "db", Short: "Look after the history", Long: dbLong, Example: dbExample,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return misuse("db: which of check, backup, vacuum, export and import? (see picosnitch help db)")
		},
	}
	verb.PersistentFlags().StringVar(&store, "store", "", "`plugin` that holds the history (default: sqlite, then sqlserver)")
	verb.AddCommand(c.dbCheckVerb(&store), c.dbBackupVerb(&store), c.dbVacuumVerb(&store), c.dbExportVerb(&store), c.dbImportVerb(&store))
	return verb
}

func (c *call) dbCheckVerb(store *string) *cobra.Command {
	return &cobra.Command{
		Use: "check", Short: "Look for damage",
		Long: "Look for damage: of the file, between tables, and between sums and what was summed up. Findings are told one a line, then\n" +
			"facts. The exit code is 1 if there are findings.",
		Example: "  picosnitch db check",
		RunE: func(cmd *cobra.Command, _ []string) error {
			findings := 0
			err := c.keep(cmd.Context(), "db check", *store, true, func(k *api.Keeper) error {
				return k.Check(cmd.Context(), *store, func(p *wire.CheckPage) error {
					findings += len(p.GetFindings())
					return writeLines(c.out, "damage: ", p.GetFindings(), p.GetFacts())
				})
			})
			if err != nil {
				return err
			}
			if findings > 0 {
				return &exitError{code: exitFindings, err: fmt.Errorf("db check: %d findings", findings)}
			}
			_, err = fmt.Fprintln(c.out, "the history is sound")
			return err
		},
	}
}

// writeLines writes findings behind a word, and facts.
func writeLines(out io.Writer, word string, findings, facts []string) error {
	for _, text := range findings {
		if _, err := fmt.Fprintln(out, word+oneLine(text)); err != nil {
			return err
		}
	}
	for _, text := range facts {
		if _, err := fmt.Fprintln(out, oneLine(text)); err != nil {
			return err
		}
	}
	return nil
}

func (c *call) dbBackupVerb(store *string) *cobra.Command {
	return &cobra.Command{
		Use: "backup FILE", Short: "Copy the history into a file",
		Long: "Copy the whole history into a file of the store's own format (SQLite for sqlite), consistent however much is being written\n" +
			"meanwhile. An existing file is replaced once the copy is whole.",
		Example: "  picosnitch db backup ~/snitch.db.bak", Args: one("file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			r := &wire.ExportRequest{Store: *store, Format: wire.ExportFormat_EXPORT_BACKUP}
			return c.export(cmd.Context(), "db backup", r, args[0])
		},
	}
}

func (c *call) dbVacuumVerb(store *string) *cobra.Command {
	return &cobra.Command{
		Use: "vacuum", Short: "Give back space",
		Long:    "Have the store give back the space of what it no longer holds. It works in steps, so that nothing is held up for long.",
		Example: "  picosnitch db vacuum",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var last *wire.CompactProgress
			err := c.keep(cmd.Context(), "db vacuum", *store, false, func(k *api.Keeper) error {
				return k.Compact(cmd.Context(), *store, func(p *wire.CompactProgress) error { last = p; return nil })
			})
			if err != nil || last == nil {
				return err
			}
			_, err = fmt.Fprintf(c.out, "%s before, %s now\n", kilobytes(last.GetBefore()), kilobytes(last.GetAfter()))
			return err
		},
	}
}

const dbExportLong = `Write the history into a file, or with - to standard output: csv (the columns of connections, with a heading), json (one object
a line) or parquet. Without --format the name of the file says which: .csv, .json, .jsonl or .parquet.

--since, --until, --where and --any take what query takes (see picosnitch help query). A row counts by the end of its window.
Text that is not printable is \xNN in it, as everywhere.`

// exportFlags are the flags of db export as they were typed.
type exportFlags struct {
	format       string
	since, until string
	where, anyOf []string
}

func (c *call) dbExportVerb(store *string) *cobra.Command {
	var f exportFlags
	verb := &cobra.Command{
		Use: "export FILE", Short: "Write the history into a file for other programs", Long: dbExportLong,
		Example: "  picosnitch db export --since 30d history.csv\n  picosnitch db export --format json --where name=curl -",
		Args:    one("file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := f.request(args[0], time.Now())
			if err != nil {
				return misuse("db export: %w", err)
			}
			r.Store = *store
			return c.export(cmd.Context(), "db export", r, args[0])
		},
	}
	p := verb.Flags()
	p.StringVar(&f.format, "format", "", "`name` of the format: csv, json or parquet (default: as the file is called)")
	p.StringVar(&f.since, "since", "", "from this `time` on, such as 7d")
	p.StringVar(&f.until, "until", "", "before this `time`")
	p.StringArrayVar(&f.where, "where", nil, "`filter`, such as name=curl; all must hold")
	p.StringArrayVar(&f.anyOf, "any", nil, "`filter` of which at least one must hold")
	return verb
}

// request checks the flags.
func (f exportFlags) request(path string, now time.Time) (*wire.ExportRequest, error) {
	format := f.format
	if format == "" {
		format = strings.TrimPrefix(filepath.Ext(path), ".")
	}
	formats := map[string]wire.ExportFormat{
		"csv": wire.ExportFormat_EXPORT_CSV, "json": wire.ExportFormat_EXPORT_JSON, "jsonl": wire.ExportFormat_EXPORT_JSON,
		"parquet": wire.ExportFormat_EXPORT_PARQUET,
	}
	r := &wire.ExportRequest{Format: formats[format]}
	switch {
	case r.Format != wire.ExportFormat_EXPORT_UNKNOWN:
	case f.format != "":
		return nil, fmt.Errorf("--format %.40q: want csv, json or parquet", f.format)
	default:
		return nil, errors.New("which format? --format csv, json or parquet, or a file called .csv, .json or .parquet")
	}
	var err error
	if r.Start, r.End, err = (queryFlags{since: f.since, until: f.until}).period(now); err != nil {
		return nil, err
	}
	r.Where, err = parseFilters(f.where, f.anyOf)
	return r, err
}

// export writes what a store gives into a file.
func (c *call) export(ctx context.Context, verb string, r *wire.ExportRequest, path string) error {
	binary := r.GetFormat() == wire.ExportFormat_EXPORT_BACKUP || r.GetFormat() == wire.ExportFormat_EXPORT_PARQUET
	if path == "-" && binary && toTerminal(c.out) {
		return misuse("%s: this is no text for a terminal: name a file, or send standard output into one", verb)
	}
	out, err := c.createFile(path)
	if err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	err = c.keep(ctx, verb, r.GetStore(), true, func(k *api.Keeper) error { return k.Export(ctx, r, out) })
	if err != nil {
		out.discard()
		return err
	}
	if err := out.finish(); err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	return nil
}

const dbImportLong = `Take over the history of another version: a snitch.db of picosnitch 1.0.3 or older, or a picosnitch.db of 2.x. The file is read
and never changed. What was imported before is skipped, so that an import that was interrupted can simply be repeated.

The daemon takes over the snitch.db that it finds in its place by itself; see picosnitch plugins for how far that has come.`

func (c *call) dbImportVerb(store *string) *cobra.Command {
	return &cobra.Command{
		Use: "import FILE", Short: "Take over the history of another version", Long: dbImportLong,
		Example: "  picosnitch db import ~/old/snitch.db", Args: one("file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			last, err := c.importFile(cmd.Context(), *store, args[0])
			if err != nil {
				return err
			}
			text := oneLine(last.GetText())
			if text == "" {
				text = fmt.Sprintf("%d rows, %d of them were there already", last.GetRows(), last.GetSkipped())
			}
			_, err = fmt.Fprintln(c.out, text)
			return err
		},
	}
}

// settled refuses a database that has changes in another file beside it: the store gets the one file only.
func settled(path string) error {
	path, err := filepath.EvalSymlinks(path) // the other file lies beside the database itself
	if err != nil {
		return err
	}
	for _, suffix := range []string{"-wal", "-journal"} {
		if info, err := os.Stat(path + suffix); err == nil && info.Size() > 0 {
			return fmt.Errorf("%s holds changes that are not in the database yet: stop the program that writes it, have sqlite3 read "+
				"the database once, which takes them over, and repeat", sdk.EscapeString(path+suffix))
		}
	}
	return nil
}

// importFile hands a store a file, and tells on standard error how far it has come.
func (c *call) importFile(ctx context.Context, store, path string) (*wire.ImportProgress, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // does not wait for a pipe's other end
	if err != nil {
		return nil, fmt.Errorf("db import: %w", err)
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("db import: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, misuse("db import: %.80q is no file", path)
	}
	if err := settled(path); err != nil {
		return nil, fmt.Errorf("db import: %w", err)
	}
	last := &wire.ImportProgress{}
	name := sdk.EscapeString(filepath.Base(path))
	err = c.keep(ctx, "db import", store, false, func(k *api.Keeper) error {
		return k.Import(ctx, store, name, uint64(info.Size()), file, func(p *wire.ImportProgress) error {
			if p.GetText() != "" && p.GetText() != last.GetText() && !p.GetDone() {
				fmt.Fprintln(c.errs, "picosnitch: db import: "+oneLine(p.GetText()))
			}
			last = p
			return nil
		})
	})
	if err == nil && !last.GetDone() {
		err = errors.New("db import: the store ended before it was done: repeat the import")
	}
	return last, err
}
