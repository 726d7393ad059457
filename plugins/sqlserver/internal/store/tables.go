package store

import (
	"fmt"
	"slices"
	"strings"

	"github.com/picosnitch/picosnitch/plugins/sqlserver/internal/server"
	"github.com/picosnitch/picosnitch/sdk"
)

// column is one column of a table.
type column struct {
	name string
	kind sdk.Type
	size int // most characters of a text that is plain ASCII; 0: any text, longText: any amount
}

const longText = -1

// table is one table. Nothing in it is ever updated or deleted.
type table struct {
	suffix  string // what follows the name of the main table in its own
	columns []column
	key     []string
	index   []string // none, or one
}

// Suffixes of the tables' names. The main one has none.
const (
	mainTable     = ""
	otherTable    = "_other"
	gapsTable     = "_gaps"
	noticesTable  = "_notices"
	verdictsTable = "_verdicts"
	resolvedTable = "_resolved"
	eventsTable   = "_events"
	batchesTable  = "_batches"
	completeView  = "_complete"
)

// Columns of flows beyond those of the SDK.
const (
	kindColumn  = "kind"
	localIndex  = "laddr_ip"
	remoteIndex = "raddr_ip"
	siteColumn  = "site"
)

// tables are all tables, in the order in which they are made: the main one comes last, so that all are there if it is.
func tables() []table {
	recordKey := []string{"host_id", "epoch", "seq"}
	return []table{
		{otherTable, flowColumns(), []string{"host_id", "epoch", "seq", "window_end"}, []string{"window_end", "host_id"}},
		{gapsTable, append(ofKind(sdk.KindGap), column{"record", sdk.Text, longText}), recordKey, []string{"end", "host_id"}},
		{noticesTable, append(ofKind(sdk.KindNotice), column{"record", sdk.Text, longText}), recordKey, []string{"time", "host_id"}},
		{verdictsTable, ofKind(sdk.KindVerdict), recordKey, []string{"sha256"}},
		{resolvedTable, ofKind(sdk.KindHashResolved), recordKey, []string{"inode", "host_id"}},
		{eventsTable, append(ofKind(sdk.KindUnknown), column{kindColumn, sdk.Text, 0}, column{"fields", sdk.Text, longText}), recordKey, nil},
		{batchesTable, batchColumns(), []string{"host_id", "epoch", "first"}, nil},
		{mainTable, flowColumns(), []string{"host_id", "epoch", "seq", "window_end"}, []string{"window_end", "host_id"}},
	}
}

func tableOf(suffix string) table {
	all := tables()
	return all[slices.IndexFunc(all, func(t table) bool { return t.suffix == suffix })]
}

// ofKind are the columns that the SDK has for a kind.
func ofKind(kind sdk.Kind) []column {
	ascii := map[string]int{"host_id": 32, "epoch": 32, "sha256": 64, "psha256": 64, "gsha256": 64, "boot_id": 32, "records_epoch": 32, "gap_epoch": 32}
	var list []column
	for _, c := range sdk.ColumnsOf(kind) {
		list = append(list, column{c.Name, c.Type, ascii[c.Name]})
	}
	return list
}

// flowColumns hold flows and executions.
func flowColumns() []column {
	return append(ofKind(sdk.KindFlow), column{kindColumn, sdk.Text, 8}, column{localIndex, sdk.Text, 32},
		column{remoteIndex, sdk.Text, 32}, column{siteColumn, sdk.Text, 0})
}

func batchColumns() []column {
	return []column{{"host_id", sdk.Text, 32}, {"epoch", sdk.Text, 32}, {"first", sdk.Integer, 0}, {"last", sdk.Integer, 0},
		{"number", sdk.Integer, 0}, {"previous", sdk.Text, 64}, {"root", sdk.Text, 64}, {"leaves", sdk.Text, longText}}
}

// names are the columns' names.
func (t table) names() []string {
	names := make([]string, len(t.columns))
	for i, c := range t.columns {
		names[i] = c.name
	}
	return names
}

// schema writes the statements that make the tables for a server.
type schema struct {
	dialect   server.Dialect
	collation string // MariaDB and MySQL: of any text, compares bytes and does not pad
}

// create are the statements that make a table called base and its suffix; those that exist stay as they are. end follows
// the list of columns.
func (s schema) create(t table, base, end string) []string {
	var b strings.Builder
	name := server.Quote(base + t.suffix)
	fmt.Fprintf(&b, "CREATE TABLE IF NOT EXISTS %s (\n", name)
	for _, c := range t.columns {
		fmt.Fprintf(&b, "  \"%s\" %s NOT NULL,\n", c.name, s.typeOf(c))
	}
	index := `"` + strings.Join(t.index, `", "`) + `"`
	indexName := `"` + base[strings.LastIndexByte(base, '.')+1:] + t.suffix + `_index"`
	if len(t.index) > 0 && s.dialect == server.MySQL {
		fmt.Fprintf(&b, "  KEY %s (%s),\n", indexName, index)
	}
	fmt.Fprintf(&b, "  PRIMARY KEY (\"%s\")\n)%s", strings.Join(t.key, `", "`), end)
	if s.dialect == server.MySQL {
		b.WriteString(" ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE " + s.collation)
		return []string{b.String()}
	}
	if len(t.index) == 0 {
		return []string{b.String()}
	}
	return []string{b.String(), fmt.Sprintf("CREATE INDEX IF NOT EXISTS %s ON %s (%s)", indexName, name, index)}
}

func (s schema) typeOf(c column) string {
	switch {
	case c.kind == sdk.Integer:
		return "bigint"
	case s.dialect == server.PostgreSQL:
		return "text"
	case c.size == longText:
		return "longtext CHARACTER SET ascii COLLATE ascii_bin"
	case c.size > 0:
		return fmt.Sprintf("varchar(%d) CHARACTER SET ascii COLLATE ascii_bin", c.size)
	}
	return "text"
}

// complete is the statement that makes the view of the main table in which hashes that came later are filled in.
func (s schema) complete(base string) string {
	var list []string
	for _, c := range flowColumns() {
		expression := completed(c.name, "c", server.Quote(base+resolvedTable))
		if expression != `c."`+c.name+`"` {
			expression += ` AS "` + c.name + `"`
		}
		list = append(list, expression)
	}
	return fmt.Sprintf("CREATE VIEW %s AS SELECT\n  %s\nFROM %s c", server.Quote(base+completeView), strings.Join(list, ",\n  "),
		server.Quote(base))
}

// completed is the value of a column of the flow row; for the hash of the executable and its status it is what a later
// record said of the same file, if the row was still waiting for it. The parent's file is not in the flat row: its hash
// cannot be filled in.
func completed(name, row, resolved string) string {
	if name != "sha256" && name != "hash_status" {
		return fmt.Sprintf(`%s."%s"`, row, name)
	}
	return fmt.Sprintf(`CASE WHEN %[1]s."hash_status" = 'pending' THEN coalesce((SELECT max(r."%[2]s") FROM %[3]s r`+
		` WHERE r."host_id" = %[1]s."host_id" AND r."records_epoch" = %[1]s."epoch" AND %[1]s."seq" BETWEEN r."first" AND r."last"`+
		` AND r."inode" = %[1]s."inode" AND r."ctime" = %[1]s."ctime" AND r."dev" = %[1]s."dev" AND r."superblock" = %[1]s."superblock"`+
		`), %[1]s."%[2]s") ELSE %[1]s."%[2]s" END`, row, name, resolved)
}
