package store

import "github.com/picosnitch/picosnitch/test/storetest"

// What the tests of every store share, in their words.

const start = storetest.Start

var (
	process, flow, batch, batchOf, apply = storetest.Process, storetest.Flow, storetest.Batch, storetest.BatchOf, storetest.Apply

	newGenerator = storetest.NewTraffic

	ask, rowText, wantRows = storetest.Ask, storetest.RowText, storetest.WantRows
	compare, equal, not    = storetest.Compare, storetest.Equal, storetest.Not
)
