package storekit

import (
	"google.golang.org/protobuf/proto"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// pageBytes is how large a page grows before it is sent. The contract allows four times as much: there is room for the row
// that went beyond it.
const pageBytes = 1 << 20

// Pager gathers an answer into pages and sends each when it is large enough.
type Pager struct {
	// Page is the one that grows. What belongs to the answer as a whole (columns, totals, others, the cursor) is set here.
	Page *wire.QueryPage

	send func(*wire.QueryPage) error
	size int
}

// NewPager makes a pager that hands its pages to send, whose errors it returns. The columns go with the first page.
func NewPager(send func(*wire.QueryPage) error, columns ...string) *Pager {
	return &Pager{Page: &wire.QueryPage{Columns: columns}, send: send}
}

// Row adds a row. Unless [Pager.Scanned] says otherwise, the rows that it sums up are those that were looked at.
func (p *Pager) Row(r *wire.QueryRow) error {
	p.Page.Rows = append(p.Page.Rows, r)
	if p.Page.GetScan() == 0 {
		p.Page.Scanned += int64(r.GetMeasures().GetRows())
	}
	return p.grew(proto.Size(r))
}

// Record adds a gap or a notice, which was read from size bytes.
func (p *Pager) Record(r *wire.Record, size int) error {
	if g := r.GetGap(); g != nil {
		p.Page.Gaps = append(p.Page.Gaps, g)
	}
	if n := r.GetNotice(); n != nil {
		p.Page.Notices = append(p.Page.Notices, n)
	}
	p.Page.Scanned++
	return p.grew(size)
}

// Scanned notes how many rows were looked at, of how many, for this page and the next ones.
func (p *Pager) Scanned(scanned, of int64) { p.Page.Scanned, p.Page.Scan = scanned, of }

// Progress sends a page without rows that tells how far the search is; what has been added waits for the next page.
func (p *Pager) Progress(scanned, of int64) error {
	columns := p.Page.Columns
	p.Page.Columns = nil // named once
	return p.send(&wire.QueryPage{Columns: columns, Scanned: scanned, Scan: of})
}

// End sends the last page. It is there in any case: a query without an answer has an empty one.
func (p *Pager) End() error { return p.send(p.Page) }

// grew notes that the page has become larger and sends it if it is large enough.
func (p *Pager) grew(bytes int) error {
	if p.size += bytes; p.size < pageBytes {
		return nil
	}
	page := p.Page
	p.Page, p.size = &wire.QueryPage{Scanned: page.GetScanned(), Scan: page.GetScan()}, 0
	return p.send(page)
}

// MeasureNames are what flows are summed up by, as an order names it: in the order of [Measures].
func MeasureNames() []string {
	return []string{"sent", "received", "sends", "receives", "connects", "accepts", "failures", "rows"}
}

// Measures makes measures of sums in the order of [MeasureNames]; sums may hold more behind them.
func Measures(sums []int64) *wire.Measures {
	return &wire.Measures{Sent: uint64(sums[0]), Received: uint64(sums[1]), Sends: uint64(sums[2]), Receives: uint64(sums[3]),
		Connects: uint64(sums[4]), Accepts: uint64(sums[5]), Failures: uint64(sums[6]), Rows: uint64(sums[7])}
}

// Text is an answer's value of a text as it is stored, escaped: the bytes that it was made of, so that it may be put into a
// filter as it is. What is no escaped text, which nobody stored who keeps to the contract, stays as it is.
func Text(stored string) *wire.Value {
	raw, err := sdk.Unescape(stored)
	if err != nil {
		raw = []byte(stored)
	}
	return &wire.Value{Kind: &wire.Value_Text{Text: raw}}
}

// Integer is an answer's value of a number.
func Integer(n int64) *wire.Value { return &wire.Value{Kind: &wire.Value_Number{Number: n}} }
