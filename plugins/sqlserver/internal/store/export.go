package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
	"github.com/picosnitch/picosnitch/sdk/storekit"
)

// Export writes the rows of `connections` of every host whose rows the server lets this user see, run by run, see
// [sdk.Exporter]. They are of one state of the database. Hashes that came later are filled in.
func (s *Store) Export(ctx context.Context, r *wire.ExportRequest, w io.Writer) error {
	return s.reading(ctx, func(a *answerer) error {
		out, err := newRowWriter(r.GetFormat(), w)
		if err != nil {
			return a.refuse(err)
		}
		if err := a.export(ctx, r, out); err != nil {
			return err
		}
		return a.refuse(out.Close())
	})
}

// export writes the rows that a request is about.
func (a *answerer) export(ctx context.Context, r *wire.ExportRequest, out storekit.RowWriter) error {
	text, args, err := a.exported(r)
	if err != nil {
		return err
	}
	rows, err := a.session.Query(ctx, text, args...)
	if err != nil {
		return err
	}
	row := newRow(table{columns: ofKind(sdk.KindFlow)})
	values := make([]sdk.Value, len(row.dest))
	for rows.Next() {
		err := rows.Scan(row.dest...)
		for i := range values {
			values[i] = row.at(i)
		}
		if err == nil {
			err = a.refuse(out.Write(values))
		}
		if err != nil {
			return errors.Join(err, rows.Close())
		}
	}
	return rows.Close()
}

func newRowWriter(format wire.ExportFormat, w io.Writer) (storekit.RowWriter, error) {
	switch format {
	case wire.ExportFormat_EXPORT_CSV:
		return storekit.NewCSV(w)
	case wire.ExportFormat_EXPORT_JSON:
		return storekit.NewJSON(w), nil
	}
	return nil, fmt.Errorf("%w: sqlserver exports CSV and JSON, not %v; the server's own tools make a backup", sdk.ErrQuery, format)
}

// exported is the statement for the rows that a request is about.
func (a *answerer) exported(r *wire.ExportRequest) (string, []any, error) {
	ask := a.question(&wire.Query{Where: r.GetWhere(), Start: r.GetStart(), End: r.GetEnd()})
	condition, err := ask.where()
	if err != nil {
		return "", nil, err
	}
	var list []string
	for _, c := range sdk.Columns() {
		list = append(list, ask.value(c.Name))
	}
	return fmt.Sprintf(`SELECT %s FROM %s WHERE %s ORDER BY f."host_id", f."epoch", f."seq"`, strings.Join(list, ", "),
		ask.source(), condition), ask.args, nil
}
