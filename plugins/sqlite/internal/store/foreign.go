package store

import (
	"context"
	"database/sql"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// foreign is a database of picosnitch 1.0.3 (one table) or 2.x (four tables), opened to be read.
type foreign struct {
	db     *sql.DB
	query  string // rows in the order of their rowid, behind an offset
	total  int64
	epochs bool // contime is seconds since 1970, not local text
	last   int64
}

// foreignColumns are what is read of a row, as bytes, in this order. From 2.x on there are more.
func foreignColumns() []string {
	return strings.Fields(`contime send recv exe name cmdline sha256 pexe pname pcmdline psha256 uid lport rport laddr raddr
domain gexe gname gcmdline gsha256 family protocol netns`)
}

// openForeign opens a file that lies still. It fails with [sdk.ErrQuery] at one that is neither.
func openForeign(ctx context.Context, s *Store, path, parameters string) (*foreign, error) {
	f := &foreign{db: sql.OpenDB(connector{s.driver, dsn(path, parameters)})}
	f.db.SetMaxOpenConns(1)
	if err := f.look(ctx); err != nil {
		_ = f.db.Close() // the first error says more
		return nil, err
	}
	return f, nil
}

// look finds out which columns there are and makes the statement.
func (f *foreign) look(ctx context.Context) error {
	columns, err := tableColumns(ctx, f.db)
	if err != nil {
		return fmt.Errorf("%w: it cannot be read as a SQLite database: %w", sdk.ErrQuery, err)
	}
	switch {
	case slices.Contains(columns, "window_end"):
		return fmt.Errorf("%w: it is a history of this picosnitch already, not of 1.0.3 or 2.x", sdk.ErrQuery)
	case slices.Contains(columns, "exe_id"):
		f.epochs = true
		f.query = splitQuery()
	case slices.Contains(columns, "contime") && slices.Contains(columns, "exe"):
		f.query = oneTableQuery(columns)
	default:
		return fmt.Errorf("%w: it has no table connections of picosnitch 1.0.3 or 2.x", sdk.ErrQuery)
	}
	if err := f.db.QueryRowContext(ctx, "SELECT count(*) FROM connections").Scan(&f.total); err != nil {
		return fmt.Errorf("%w: count its rows: %w", sdk.ErrQuery, err)
	}
	return nil
}

// before counts the rows of before a time, as far as theirs can be read.
func (f *foreign) before(ctx context.Context, cutoff time.Time) (n int64, err error) {
	text, at := "SELECT count(*) FROM connections WHERE contime < ?", any(cutoff.Local().Format(time.DateTime))
	if f.epochs {
		at = cutoff.Unix()
	}
	if err := f.db.QueryRowContext(ctx, text, at).Scan(&n); err != nil {
		return 0, fmt.Errorf("%w: count its old rows: %w", sdk.ErrQuery, err)
	}
	return n, nil
}

func tableColumns(ctx context.Context, db *sql.DB) ([]string, error) {
	rows, err := db.QueryContext(ctx, "SELECT name FROM pragma_table_info('connections')")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var names []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, rows.Err()
}

// oneTableQuery reads the table of 1.0.3. Versions 0 to 2 of it have fewer columns, or others: ip and port are the remote
// end's.
func oneTableQuery(have []string) string {
	old := map[string]string{"rport": "port", "raddr": "ip"}
	var list []string
	for _, name := range foreignColumns() {
		column := "NULL"
		switch {
		case slices.Contains(have, name):
			column = "c." + name
		case slices.Contains(have, old[name]):
			column = "c." + old[name]
		}
		list = append(list, "CAST("+column+" AS BLOB)")
	}
	return "SELECT " + strings.Join(list, ", ") + " FROM connections c ORDER BY c.rowid LIMIT -1 OFFSET ?"
}

// splitQuery reads the four tables of 2.x.
func splitQuery() string {
	var list []string
	for _, name := range foreignColumns() {
		column := "c." + name
		switch {
		case name == "laddr" || name == "raddr":
			column = "(SELECT addr FROM addresses WHERE id = c." + name + "_id)"
		case name == "domain":
			column = "(SELECT domain FROM domains WHERE id = c.domain_id)"
		case strings.HasSuffix(name, "exe") || strings.HasSuffix(name, "name") || strings.HasSuffix(name, "cmdline") || strings.HasSuffix(name, "sha256"):
			id, rest := "exe_id", name
			switch {
			case strings.HasPrefix(name, "p"):
				id, rest = "pexe_id", name[1:]
			case strings.HasPrefix(name, "g"):
				id, rest = "gpexe_id", name[1:]
			}
			column = "(SELECT " + rest + " FROM executables WHERE id = c." + id + ")"
		}
		list = append(list, "CAST("+column+" AS BLOB)")
	}
	return "SELECT " + strings.Join(list, ", ") + " FROM connections c ORDER BY c.rowid LIMIT -1 OFFSET ?"
}

// each calls take with the records of the rows behind the first ones.
func (f *foreign) each(ctx context.Context, skip int64, take func(*wire.Record) error) error {
	rows, err := f.db.QueryContext(ctx, f.query, skip)
	if err != nil {
		return fmt.Errorf("read rows: %w", err)
	}
	defer rows.Close()
	names := foreignColumns()
	values, dest := make([]sql.RawBytes, len(names)), make([]any, len(names))
	for i := range values {
		dest[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return fmt.Errorf("read rows: %w", err)
		}
		row := make(map[string]string, len(names))
		for i, name := range names {
			row[name] = string(values[i])
		}
		if err := take(f.record(row)); err != nil {
			return err
		}
	}
	return rows.Err()
}

// record is the row as a flow. What it does not tell is empty, and the end of its window is the time that it has.
func (f *foreign) record(row map[string]string) *wire.Record {
	at, offset := f.time(row["contime"])
	local, remote := endpoint(row["laddr"], row["lport"]), endpoint(row["raddr"], row["rport"])
	family := uint32(integer(row["family"], 0))
	switch ip := remote.GetIp(); {
	case family != 0:
	case len(ip) == 4:
		family = unix.AF_INET
	case len(ip) == 16:
		family = unix.AF_INET6
	}
	layer := wire.Layer_LAYER_SOCKET
	if family == unix.AF_PACKET {
		layer = wire.Layer_LAYER_PACKET // whole frames, which 2.x kept among the rest
	}
	flow := &wire.Flow{
		Window: &wire.Window{Start: at, End: at, ZoneOffset: offset},
		Sent:   uint64(integer(row["send"], 0)), Received: uint64(integer(row["recv"], 0)),
		Layer: layer, Family: family, Protocol: uint32(integer(row["protocol"], 0)), Local: local, Remote: remote,
		Netns:   uint32(integer(row["netns"], 0)),
		Process: program(row, ""), Parent: program(row, "p"), Grandparent: program(row, "g"),
	}
	if domain := row["domain"]; domain != "" {
		flow.Domain = &wire.Domain{Name: &wire.Text{Value: []byte(turn(domain))}}
	}
	flow.Process.Ruid = uint32(integer(row["uid"], 0))
	return &wire.Record{Kind: &wire.Record_Flow{Flow: flow}}
}

// time is the UTC time of a row and the offset of local time then. A time that cannot be read is that of the row before.
func (f *foreign) time(text string) (ns int64, offset int32) {
	at, err := time.ParseInLocation(time.DateTime, text, time.Local)
	if f.epochs {
		at, err = time.Unix(integer(text, 0), 0), nil
	}
	if err == nil {
		f.last = at.UnixNano()
	}
	_, seconds := time.Unix(0, f.last).Zone()
	return f.last, int32(seconds)
}

// program is a process as a row tells of it; nil for a relative of whom it tells nothing.
func program(row map[string]string, who string) *wire.Process {
	command := arguments(row[who+"cmdline"])
	if row[who+"exe"]+row[who+"name"]+command+row[who+"sha256"] == "" && who != "" {
		return nil
	}
	x := &wire.Executable{Path: &wire.Text{Value: []byte(row[who+"exe"])}, HashStatus: wire.HashStatus_HASH_UNREADABLE}
	if sum, err := hex.DecodeString(row[who+"sha256"]); err == nil && len(sum) == 32 {
		x.Sha256, x.HashStatus = sum, wire.HashStatus_HASH_OK
	} else {
		x.Package = sdk.EscapeString(row[who+"sha256"]) // the words in place of a hash that could not be had
	}
	return &wire.Process{Executable: x, Name: &wire.Text{Value: []byte(row[who+"name"])},
		CommandLine: &wire.Text{Value: []byte(command)}}
}

// arguments gives the arguments of a command line, separated by NUL as on the wire. Some versions stored them so. Others
// quoted them for a shell in the way of [sdk.CommandLine]; a text that has not that form is one argument.
func arguments(text string) string {
	if strings.IndexByte(text, 0) >= 0 {
		return strings.TrimRight(text, "\x00")
	}
	const apostrophe = `'"'"'` // between quotes
	var line []byte
	for i, quoted := 0, false; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && strings.HasPrefix(text[i:], apostrophe):
			line = append(line, '\'')
			i += len(apostrophe) - 1
		case c == '\'':
			quoted = !quoted
		case c == ' ' && !quoted:
			line = append(line, 0)
		default:
			line = append(line, c)
		}
	}
	// One empty argument is what they made of a command line that was not known.
	if text != "''" && sdk.CommandLine(&wire.Text{Value: line}) != sdk.EscapeString(text) {
		return text
	}
	return string(line)
}

// endpoint is an address and port; a port that is not known is -1. A zone is kept if it is a number, as here: nobody knows
// which interface of another time and machine a name meant.
func endpoint(address, port string) *wire.Endpoint {
	e := &wire.Endpoint{Port: int32(integer(port, -1))}
	if ip, err := netip.ParseAddr(address); err == nil {
		e.Ip = ip.Unmap().WithZone("").AsSlice()
		if scope, err := strconv.ParseUint(ip.Zone(), 10, 32); err == nil {
			e.ScopeId = uint32(scope)
		}
	}
	return e
}

// turn puts the labels of a name into the other order.
func turn(domain string) string {
	labels := strings.Split(domain, ".")
	slices.Reverse(labels)
	return strings.Join(labels, ".")
}

// integer reads a decimal number, also one that is written as a fraction.
func integer(text string, otherwise int64) int64 {
	var n int64
	if _, err := fmt.Sscan(text, &n); err != nil {
		return otherwise
	}
	return n
}
