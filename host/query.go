package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

const queryLong = `Ask the history: sums of bytes, grouped by columns. With the daemon running it is asked; with the daemon stopped, the SQLite
store of the configuration directory is opened read-only as the calling user, so that no root is needed.

--by names the columns that rows are grouped by: exe, name, cmdline, sha256, uid, domain, raddr, rport, lport, laddr, pexe,
pname, gexe, unit, container, protocol, … (p is the parent, g the grandparent). An unknown one is answered with the list of
all. Without --by there is one row of everything. One column alone lists its distinct values.

--where is COLUMN OPERATOR VALUE in one word. Given several times, all must hold; of those given with --any, one must.
  name=curl             equal
  exe^=/usr/bin/        begins with
  cmdline*=token        contains
  raddr<<10.0.0.0/8     address lies in the subnet
  name!=curl            ! before any operator: does not hold
The value is everything after the operator, byte for byte: nothing in it needs escaping but what your shell wants. Columns
with numbers (uid, rport, …) know = alone. domain is written from the top: org.example.www.

--since and --until take a span before now (90s, 5m, 1h30m, 7d, 2w), a local time (17:00, 2026-11-21, "2026-11-21 17:00"), or
RFC 3339. A row counts by the end of its window (10 seconds long unless configured). --bucket makes a row for each span of
time: 5m, 1h, 1d; --zone has them begin, and shows them, in another time zone.

--order takes columns, and sums: sent, received, sends, receives, connects, accepts, failures, rows; - before one puts the
largest first. With --limit the answer is the top of that order; --others sums up what the limit leaves out, and says how
many rows that is. Without --others, --cursor goes on where the last answer ended: it is told when there are more rows.

The table is for people: bytes in kB (1000 bytes), local times. --json and --csv are for programs: bytes, UTC (but for --zone),
all sums. In all of them, bytes of a text that are not printable are \xNN and a backslash is \\.`

const queryExample = `  picosnitch query --by exe --since 1h
  picosnitch query --by exe,domain --where name=curl --order -sent --limit 20
  picosnitch query --by raddr,rport --where exe^=/opt/ --where 'raddr!<<192.168.0.0/16'
  picosnitch query --by exe --order -received --limit 10 --others    # the top ten, and all the rest
  picosnitch query --by name --any name=curl --any name=wget --totals
  picosnitch query --bucket 1h --since "2026-11-21 17:00" --csv
  picosnitch query --gaps --since 7d          # when was the view incomplete?`

// queryFlags are the flags of query as they were typed.
type queryFlags struct {
	by                   []string
	where, anyOf         []string
	since, until, bucket string
	order                string
	limit                uint32
	totals, others       bool
	cursor               string
	gaps, notices        bool
	store, zone          string
	json, csv            bool
}

// queryVerb is query.
func (c *call) queryVerb() *cobra.Command {
	var f queryFlags
	verb := &cobra.Command{
		Use: "query", Short: "Ask the history", Long: queryLong, Example: queryExample,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.query(cmd.Context(), f) },
	}
	p := verb.Flags()
	p.StringSliceVar(&f.by, "by", nil, "`columns` to group by, separated by commas")
	p.StringArrayVar(&f.where, "where", nil, "`filter`, such as name=curl; all must hold")
	p.StringArrayVar(&f.anyOf, "any", nil, "`filter` of which at least one must hold")
	p.StringVar(&f.since, "since", "", "from this `time` on, such as 1h")
	p.StringVar(&f.until, "until", "", "before this `time`")
	p.StringVar(&f.bucket, "bucket", "", "a row for each `span`, such as 5m")
	p.StringVar(&f.zone, "zone", "", "time `zone` of the buckets, such as Europe/Berlin (default: local)")
	p.StringVar(&f.order, "order", "", "`columns` or sums, such as -sent,exe (default: as --by)")
	p.Uint32Var(&f.limit, "limit", 0, "at most this `number` of rows (default 1000)")
	p.BoolVar(&f.totals, "totals", false, "also sum up everything that matches")
	p.BoolVar(&f.others, "others", false, "also sum up what --limit leaves out")
	p.StringVar(&f.cursor, "cursor", "", "go on after the answer that told this `text`; ask the same otherwise")
	p.BoolVar(&f.gaps, "gaps", false, "list when and why the view was incomplete, instead of sums")
	p.BoolVar(&f.notices, "notices", false, "list notices, instead of sums")
	p.StringVar(&f.store, "store", "", "`plugin` to ask (default: sqlite, then sqlserver)")
	p.BoolVar(&f.json, "json", false, "answer as a JSON object")
	p.BoolVar(&f.csv, "csv", false, "answer as CSV")
	return verb
}

// query asks and shows the answer.
func (c *call) query(ctx context.Context, f queryFlags) error {
	q, err := f.question(time.Now(), zoneName(c.getenv, c.localtime))
	if err != nil {
		return misuse("query: %w", err)
	}
	zone, err := f.shown()
	if err != nil {
		return misuse("query: %w", err)
	}
	a := newAnswer(q, c.sink(f, zone))
	if err := c.ask(ctx, f.store, q, c.withProgress(a.page)); err != nil {
		return err
	}
	if err := a.end(); err != nil {
		return fmt.Errorf("query: write the answer: %w", err)
	}
	if a.more && !f.json {
		fmt.Fprintf(c.errs, "picosnitch: query: there are more rows than these %d: see --limit, or go on with --cursor %s\n",
			a.rows, cursorText(a.cursor))
	}
	return nil
}

// progressAfter is how long a question may take before a person is told how far it has come.
const progressAfter = time.Second

// withProgress tells on a terminal how much of the history was looked at, when that takes a while.
func (c *call) withProgress(page func(*wire.QueryPage) error) func(*wire.QueryPage) error {
	if !toTerminal(c.errs) {
		return page
	}
	begun := time.Now()
	return func(p *wire.QueryPage) error {
		if p.GetScan() > 0 && time.Since(begun) > progressAfter {
			fmt.Fprintf(c.errs, "\rpicosnitch: query: looked at %d %% of %d rows \r", min(100*p.GetScanned()/p.GetScan(), 100), p.GetScan())
		}
		return page(p)
	}
}

func (c *call) sink(f queryFlags, zone *time.Location) sink {
	switch {
	case f.json:
		return &jsonSink{out: c.out, zone: zone}
	case f.csv:
		return newCSVSink(c.out, zone)
	}
	return &tableSink{out: c.out, zone: zone}
}

// shown is the zone that times are shown in: the one of --zone, else the local one to people and UTC to programs.
func (f queryFlags) shown() (*time.Location, error) {
	switch {
	case f.zone != "":
		zone, err := time.LoadLocation(f.zone)
		if err != nil || f.zone == "Local" {
			return nil, fmt.Errorf("--zone %.40q: this machine knows no such time zone: name one such as Europe/Berlin", f.zone)
		}
		return zone, nil
	case f.json || f.csv:
		return time.UTC, nil
	}
	return time.Local, nil
}

// question checks the flags and makes them a query.
func (f queryFlags) question(now time.Time, zone string) (*wire.Query, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	q := &wire.Query{By: f.by, Limit: f.limit, Totals: f.totals, Others: f.others}
	var err error
	if q.Cursor, err = parseCursor(f.cursor); err != nil {
		return nil, err
	}
	if q.Start, q.End, err = f.period(now); err != nil {
		return nil, err
	}
	if q.Where, err = parseFilters(f.where, f.anyOf); err != nil {
		return nil, err
	}
	if q.Order, err = parseOrder(f.order); err != nil {
		return nil, err
	}
	if f.bucket != "" {
		span, err := parseSpan(f.bucket)
		if err == nil && span == 0 {
			err = errors.New("must be longer than nothing")
		}
		if err != nil {
			return nil, fmt.Errorf("--bucket: %w", err)
		}
		q.Bucket, q.Zone = int64(span), zone
		if f.zone != "" {
			q.Zone = f.zone
		}
	}
	switch {
	case f.gaps:
		q.What = wire.Query_GAPS
	case f.notices:
		q.What = wire.Query_NOTICES
	}
	return q, nil
}

// check finds flags that contradict each other.
func (f queryFlags) check() error {
	grouped := len(f.by)+len(f.where)+len(f.anyOf)+len(f.order)+len(f.bucket) > 0 || f.totals || f.others
	switch {
	case f.gaps && f.notices:
		return errors.New("--gaps and --notices are two questions: ask one")
	case f.json && f.csv:
		return errors.New("--json and --csv are two formats: choose one")
	case f.csv && (f.totals || f.others):
		return errors.New("--csv has no place for --totals and --others: use --json, or ask again without --by")
	case f.others && f.bucket != "":
		return errors.New("--others is not for a series: leave out --bucket")
	case f.others && f.limit == 0:
		return errors.New("--others is what --limit leaves out: say a --limit")
	case f.others && f.cursor != "":
		return errors.New("--others and --cursor are two ways to get the rest: choose one")
	case (f.gaps || f.notices) && grouped:
		return errors.New("--gaps and --notices take --since, --until, --limit, --store and a format alone")
	case f.zone != "" && f.bucket == "":
		return errors.New("--zone is for --bucket alone")
	}
	for i, name := range f.by {
		if slices.Contains(f.by[:i], name) {
			return fmt.Errorf("--by names %.80q twice", name)
		}
		if slices.Contains(measureNames(), name) {
			return fmt.Errorf("--by %s: it is a sum, and in every row already", name)
		}
		if column, rest := splitColumn(name); column == "" || rest != "" {
			return fmt.Errorf("--by %.80q: want columns separated by commas, such as exe,domain", strings.Join(f.by, ","))
		}
	}
	return nil
}

// cursorText makes a cursor fit for a shell.
func cursorText(cursor []byte) string { return base64.RawURLEncoding.EncodeToString(cursor) }

func parseCursor(text string) ([]byte, error) {
	cursor, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("--cursor %.40q: is none that an answer told", text)
	}
	return cursor, nil
}

// period is the range asked for, 0 where it has no end.
func (f queryFlags) period(now time.Time) (start, end int64, err error) {
	if f.since != "" {
		if start, err = parseWhen(f.since, now); err != nil {
			return 0, 0, fmt.Errorf("--since: %w", err)
		}
	}
	if f.until != "" {
		if end, err = parseWhen(f.until, now); err != nil {
			return 0, 0, fmt.Errorf("--until: %w", err)
		}
	}
	if start != 0 && end != 0 && end <= start {
		return 0, 0, fmt.Errorf("--until %.40q is not after --since %.40q", f.until, f.since)
	}
	return start, end, nil
}
