// Package storekit is what every store of picosnitch needs, whatever its database: the meaning of a query's parts beyond
// any SQL. A store ([sdk.Store]) takes from it what it likes:
//
//   - [Check], [CheckRecords], [Limit] and [Lookup] refuse what no store answers, with words for a person;
//   - [Condition], [Number] and [Subnet] turn a filter into a condition;
//   - [Buckets] cuts time as clocks on a wall have it, also where they are changed;
//   - [Order], [OrderBy], [Behind] and [Cursor] page through groups by the keys of the last one;
//   - [Pager] gathers an answer into pages of a size that the contract allows, [Measures] and [Text] make its parts;
//   - [Site] and [Flow] are two things to store with a record;
//   - [NewCSV] and [NewJSON] write an export.
//
// The statement that sums up, which is a store's own, names its columns so: c0, c1, … for the dimensions, [BucketColumn]
// for the start of the bucket if the query has one, m0, m1, … for the measures in the order of [MeasureNames]. They stand in
// this order.
//
// Errors that blame the question wrap [sdk.ErrQuery]. Text of a question never becomes part of SQL here: values go
// through a function of the store that binds them.
//
// # Concurrency
//
// Functions may be called from any goroutine. A [Pager] and a [RowWriter] belong to one at a time.
package storekit
