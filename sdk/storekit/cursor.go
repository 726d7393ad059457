package storekit

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// Cursor says behind which group a query goes on.
type Cursor struct {
	After []any // the group's keys, int64 or string each, see [Order]
	Bound int64 // the store's own: up to which row the first page saw the table, say
}

// sealed is a cursor on its way: the host's to keep, ours to read, and not trusted.
type sealed struct {
	Query []byte // which query it continues
	Cursor
}

// Seal encodes the cursor for a page of the answer to q.
func (c Cursor) Seal(q *wire.Query) ([]byte, error) {
	raw, err := json.Marshal(sealed{fingerprint(q), c})
	if err != nil {
		return nil, fmt.Errorf("make cursor: %w", err)
	}
	return raw, nil
}

// OpenCursor reads the cursor of a query whose order has these keys. nil: the query has none. What it holds is right in
// number and type, and may be made up all the same, the bound included.
func OpenCursor(q *wire.Query, keys []Key) (*Cursor, error) {
	if len(q.GetCursor()) == 0 {
		return nil, nil
	}
	var c sealed
	decoder := json.NewDecoder(bytes.NewReader(q.GetCursor()))
	decoder.UseNumber()
	if err := decoder.Decode(&c); err != nil {
		return nil, errNoCursor()
	}
	if !bytes.Equal(c.Query, fingerprint(q)) || len(c.After) != len(keys) {
		return nil, fmt.Errorf("%w: the cursor belongs to another query", sdk.ErrQuery)
	}
	for i, value := range c.After {
		if _, text := value.(string); text && keys[i].Text {
			continue
		}
		number, _ := value.(json.Number)
		n, err := number.Int64()
		if err != nil || keys[i].Text {
			return nil, errNoCursor()
		}
		c.After[i] = n
	}
	return &c.Cursor, nil
}

func errNoCursor() error { return fmt.Errorf("%w: the cursor is none of this store", sdk.ErrQuery) }

// fingerprint tells queries apart whose cursors must not be mixed.
func fingerprint(q *wire.Query) []byte {
	bare := &wire.Query{What: q.GetWhat(), By: q.GetBy(), Where: q.GetWhere(), Start: q.GetStart(), End: q.GetEnd(),
		Bucket: q.GetBucket(), Zone: q.GetZone(), Order: q.GetOrder()}
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(bare)
	if err != nil {
		raw = nil // a name that is not UTF-8; no column has it
	}
	sum := sha256.Sum256(raw)
	return sum[:8]
}
