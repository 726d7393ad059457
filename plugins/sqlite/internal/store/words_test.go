package store

import "github.com/picosnitch/picosnitch/test/storetest"

// What the tests of every store share, in their words.

const start = storetest.Start

type generator = storetest.Traffic

var (
	process, flow, batch, apply = storetest.Process, storetest.Flow, storetest.Batch, storetest.Apply

	newGenerator = storetest.NewTraffic

	ask, rowText, wantRows          = storetest.Ask, storetest.RowText, storetest.WantRows
	compare, equal, all, anyOf, not = storetest.Compare, storetest.Equal, storetest.All, storetest.AnyOf, storetest.Not
)
