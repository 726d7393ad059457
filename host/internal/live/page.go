package live

import (
	"google.golang.org/protobuf/proto"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// split makes pages that a reader can take, at least one.
func split(whole *wire.WatchPage) []*wire.WatchPage {
	page := &wire.WatchPage{Time: whole.GetTime(), Lagged: whole.GetLagged()}
	pages, size := []*wire.WatchPage{page}, 0
	room := func(m proto.Message) {
		n := proto.Size(m) + 16 // tag and length
		if size > 0 && size+n > wire.MaxPageBytes-64 {
			page, size = &wire.WatchPage{Time: whole.GetTime()}, 0
			pages = append(pages, page)
		}
		size += n
	}
	for _, f := range whole.GetFlows() {
		room(f)
		page.Flows = append(page.Flows, f)
	}
	for _, r := range whole.GetRecords() {
		room(r)
		page.Records = append(page.Records, r)
	}
	return pages
}
