package main

import (
	"fmt"
	"slices"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// maxDoubts bounds the batches that are looked into row by row.
const maxDoubts = 100

// comparison is what two stores say about each other.
type comparison struct {
	ours, theirs *proof
	later        *proof // ours, read again after theirs: records go on coming
	sent, kept   mark   // how far theirs and ours were known to be before they were read, ours the second time
	name         string // of the other store
	running      bool   // the daemon, which knows what waits

	found   *proof // findings
	waiting int    // batches that have not come to the other store yet
	awaited int    // batches that the other store has and this one has not got yet
	doubts  []doubt
}

// doubt is a batch that both stores have, and not with the same rows.
type doubt struct {
	key         epochKey
	first, last uint64
}

// mark says up to where a store acknowledged records. The zero mark is that of a store to which nothing is delivered now.
type mark struct {
	fed      bool
	epoch    string // "": nothing was acknowledged
	sequence uint64
}

// markOf is the mark of a store as the daemon tells of it.
func markOf(list []*wire.PluginStatus, store string) mark {
	i := slices.IndexFunc(list, func(p *wire.PluginStatus) bool { return p.GetName() == store })
	if i < 0 {
		return mark{}
	}
	return mark{fed: true, epoch: string(list[i].GetEpoch()), sequence: list[i].GetAcknowledged()}
}

// reached is the mark of a store without a daemon to tell of it: what it shows itself of some runs.
func reached(runs []epochKey, store *proof) (m mark) {
	for _, key := range runs {
		if e := store.epochs[key]; e != nil {
			m = mark{fed: true, epoch: key.epoch, sequence: e.last.GetLast()}
		}
	}
	return m
}

// due tells whether a record of a run must have come to a store with this mark. Runs are delivered one after the other, in
// the order in which they are listed.
func (m mark) due(runs []epochKey, key epochKey, last uint64) bool {
	if !m.fed {
		return true
	}
	at := slices.IndexFunc(runs, func(k epochKey) bool { return k.epoch == m.epoch })
	switch {
	case m.epoch == key.epoch:
		return last <= m.sequence
	case at < 0: // a run that is not there any more, or none
		return m.epoch != ""
	case runs[at].host != key.host:
		return true
	}
	return slices.Index(runs, key) < at
}

// compare finds in what the stores differ, as far as both are known to be.
func (c *comparison) compare() {
	c.found = newProof("")
	for _, key := range c.ours.order {
		ours, theirs := c.ours.epochs[key], c.theirs.epochs[key]
		if theirs == nil && c.sent.due(c.ours.order, key, ours.last.GetLast()) {
			c.found.find(key, "%s has nothing of it", c.name)
			continue
		}
		for _, first := range firsts(ours.batches) {
			c.batch(key, first)
		}
	}
	for _, key := range c.theirs.order {
		theirs := c.theirs.epochs[key]
		if c.ours.epochs[key] == nil && c.later.epochs[key] == nil && c.kept.due(c.theirs.order, key, theirs.last.GetLast()) {
			c.found.find(key, "all of it is missing here, %s has it", c.name)
			continue
		}
		for _, first := range firsts(theirs.batches) {
			c.lacking(key, first)
		}
	}
}

// batch compares a batch of ours with theirs.
func (c *comparison) batch(key epochKey, first uint64) {
	ours := c.ours.epochs[key].batches[first]
	if !c.theirs.epochs[key].has(first) {
		switch {
		case !ours.whole:
		case c.sent.due(c.ours.order, key, ours.last):
			c.found.find(key, "records %d to %d: %s does not have them", first, ours.last, c.name)
		default:
			c.waiting++
		}
		return
	}
	theirs := c.theirs.epochs[key].batches[first]
	switch {
	case !theirs.whole && !ours.whole:
		return
	case !ours.whole:
		c.found.find(key, "records %d to %d are a gap here, %s has them", first, theirs.last, c.name)
		return
	case !theirs.whole:
		c.found.find(key, "records %d to %d are a gap in %s", first, ours.last, c.name)
		return
	case ours.last != theirs.last || ours.root != theirs.root:
		c.found.find(key, "records %d to %d are not those that %s has: one of the two was altered", first, ours.last, c.name)
	case ours.state != wire.BatchEvidence_ALTERED && theirs.state != wire.BatchEvidence_ALTERED:
		return
	}
	if ours.told() && theirs.told() && len(c.doubts) < maxDoubts {
		c.doubts = append(c.doubts, doubt{key, first, min(ours.last, theirs.last)})
	}
}

// lacking looks whether this store has a batch of theirs.
func (c *comparison) lacking(key epochKey, first uint64) {
	theirs := c.theirs.epochs[key].batches[first]
	switch {
	case !theirs.whole || c.ours.epochs[key].has(first) || c.later.epochs[key].has(first):
	case !c.kept.due(c.theirs.order, key, theirs.last):
		c.awaited++
	default:
		c.found.find(key, "records %d to %d are missing here, %s has them", first, theirs.last, c.name)
	}
}

// facts tell what was not compared.
func (c *comparison) facts() []string {
	var facts []string
	switch {
	case c.waiting > 0 && c.running:
		facts = append(facts, fmt.Sprintf("%d batches wait to be delivered to %s, and are not compared", c.waiting, c.name))
	case c.waiting > 0:
		facts = append(facts, fmt.Sprintf("%d batches have not come to %s, and are not compared: the daemon, which knows whether they wait, does not run",
			c.waiting, c.name))
	}
	if c.awaited > 0 {
		facts = append(facts, fmt.Sprintf("%d batches of %s wait to be delivered here, and are not compared", c.awaited, c.name))
	}
	return facts
}
