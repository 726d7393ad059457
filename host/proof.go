package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

const (
	maxFindings = 10_000    // that are told one by one
	maxProof    = 4_000_000 // batches that are compared: a year of them, one every ten seconds
	maxNamed    = 20        // sequences in one finding
)

// proof is what a store can prove: its batches by epoch, and what is wrong between them.
type proof struct {
	epochs   map[epochKey]*epochProof
	order    []epochKey
	batches  int
	expired  int
	filtered int
	findings []string
	more     int // findings beyond maxFindings
}

// epochKey names one run of one host.
type epochKey struct{ host, epoch string }

func (k epochKey) String() string { return fmt.Sprintf("host %x, run %x", k.host, k.epoch) }

// epochProof are the batches of one run, by their first sequence.
type epochProof struct {
	batches map[uint64]batchProof
	last    *wire.BatchEvidence // the one before
}

// batchProof is what two stores must agree on.
type batchProof struct {
	last  uint64
	root  [sha256.Size]byte
	whole bool // it is a part of the chain: no gap stands for it
}

// has tells whether there is a batch that begins with a sequence. No run has none.
func (e *epochProof) has(first uint64) bool {
	if e == nil {
		return false
	}
	_, have := e.batches[first]
	return have
}

func newProof() *proof { return &proof{epochs: map[epochKey]*epochProof{}} }

// take looks at a page, whose batches come in order within their epoch.
func (p *proof) take(page *wire.EvidencePage) error {
	for _, b := range page.GetBatches() {
		if p.batches++; p.batches > maxProof {
			return fmt.Errorf("there are more than %d batches: check a shorter history", maxProof)
		}
		key := epochKey{string(b.GetHostId()), string(b.GetEpoch())}
		e := p.epochs[key]
		if e == nil {
			e = &epochProof{batches: map[uint64]batchProof{}}
			p.epochs[key] = e
			p.order = append(p.order, key)
		}
		p.judge(key, e, b)
		kept := batchProof{last: b.GetLast(), whole: len(b.GetRoot()) == sha256.Size}
		copy(kept.root[:], b.GetRoot())
		e.batches[b.GetFirst()] = kept
		e.last = b
	}
	return nil
}

func (p *proof) find(key epochKey, format string, args ...any) {
	if len(p.findings) >= maxFindings {
		p.more++
		return
	}
	p.findings = append(p.findings, key.String()+": "+fmt.Sprintf(format, args...))
}

// judge finds what is wrong with a batch, and between it and the one before.
func (p *proof) judge(key epochKey, e *epochProof, b *wire.BatchEvidence) {
	switch b.GetState() {
	case wire.BatchEvidence_EXPIRED:
		p.expired++
	case wire.BatchEvidence_FILTERED:
		p.filtered++
	case wire.BatchEvidence_ALTERED:
		p.find(key, "records %d to %d were altered%s", b.GetFirst(), b.GetLast(), sequencesText(b.GetAltered()))
	}
	if len(b.GetMissing()) > 0 && b.GetState() != wire.BatchEvidence_EXPIRED {
		p.find(key, "of records %d to %d some are missing%s", b.GetFirst(), b.GetLast(), sequencesText(b.GetMissing()))
	}
	before := e.last
	switch {
	case before == nil:
	case b.GetFirst() <= before.GetLast():
		p.find(key, "records %d to %d come a second time", b.GetFirst(), min(b.GetLast(), before.GetLast()))
	case b.GetFirst() > before.GetLast()+1 && !bridges(b):
		p.find(key, "records %d to %d are missing", before.GetLast()+1, b.GetFirst()-1)
	case b.GetFirst() == before.GetLast()+1 && !chained(before, b):
		p.find(key, "the batch of records %d to %d does not follow the one before it", b.GetFirst(), b.GetLast())
	}
}

// bridges tells a gap that the store holds in place of records: it has the number of the last of them alone.
func bridges(b *wire.BatchEvidence) bool {
	return len(b.GetRoot()) != sha256.Size && b.GetFirst() == b.GetLast()
}

// chained tells whether a batch carries the hash of the one before it. A gap is no part of the chain.
func chained(before, b *wire.BatchEvidence) bool {
	if len(before.GetRoot()) != sha256.Size || len(before.GetPrevious()) != sha256.Size || len(b.GetPrevious()) != sha256.Size {
		return true
	}
	hash := sdk.Chain(&wire.Batch{
		HostId: before.GetHostId(), Epoch: before.GetEpoch(), First: before.GetFirst(), Last: before.GetLast(),
	}, sdk.Hash(before.GetPrevious()), sdk.Hash(before.GetRoot()))
	return bytes.Equal(hash[:], b.GetPrevious())
}

// sequencesText names sequences, as far as there is room.
func sequencesText(sequences []uint64) string {
	if len(sequences) == 0 {
		return ""
	}
	var words []string
	for _, s := range sequences[:min(len(sequences), maxNamed)] {
		words = append(words, fmt.Sprint(s))
	}
	text := ": " + strings.Join(words, ", ")
	if len(sequences) > maxNamed {
		text += fmt.Sprintf(" and %d more", len(sequences)-maxNamed)
	}
	return text
}

// hostIDs are the hosts that there is anything of.
func (p *proof) hostIDs() [][]byte {
	var hosts [][]byte
	for _, key := range p.order {
		if !slices.ContainsFunc(hosts, func(h []byte) bool { return string(h) == key.host }) {
			hosts = append(hosts, []byte(key.host))
		}
	}
	return hosts
}

// compare finds in what two stores differ. later is this store as it was after the other one was read: records go on coming.
func (p *proof) compare(other, later *proof, name string) []string {
	found := &proof{}
	for _, key := range p.order {
		theirs := other.epochs[key]
		if theirs == nil {
			found.find(key, "%s has nothing of it", name)
			continue
		}
		ours := p.epochs[key]
		for _, first := range firsts(ours.batches) {
			compareBatch(found, key, name, first, ours.batches[first], theirs.batches)
		}
		for _, first := range firsts(theirs.batches) {
			if !ours.has(first) && !later.epochs[key].has(first) && theirs.batches[first].whole {
				found.find(key, "records %d to %d are missing here, %s has them", first, theirs.batches[first].last, name)
			}
		}
	}
	for _, key := range other.order {
		if p.epochs[key] == nil && later.epochs[key] == nil {
			found.find(key, "all of it is missing here, %s has it", name)
		}
	}
	p.more += found.more
	return found.findings
}

func compareBatch(found *proof, key epochKey, name string, first uint64, ours batchProof, theirs map[uint64]batchProof) {
	their, have := theirs[first]
	switch {
	case !have && ours.whole:
		found.find(key, "records %d to %d: %s does not have them", first, ours.last, name)
	case !have || !their.whole && !ours.whole:
	case !ours.whole:
		found.find(key, "records %d to %d are a gap here, %s has them", first, their.last, name)
	case !their.whole:
		found.find(key, "records %d to %d are a gap in %s", first, ours.last, name)
	case ours.last != their.last || ours.root != their.root:
		found.find(key, "records %d to %d are not those that %s has: one of the two was altered", first, ours.last, name)
	}
}

func firsts(batches map[uint64]batchProof) []uint64 {
	list := make([]uint64, 0, len(batches))
	for first := range batches {
		list = append(list, first)
	}
	slices.Sort(list)
	return list
}

// facts are counts.
func (p *proof) facts() []string {
	facts := []string{fmt.Sprintf("%d batches of %d runs were checked", p.batches, len(p.order))}
	if p.expired > 0 {
		facts = append(facts, fmt.Sprintf("%d batches are past their retention: their hashes are left, and fit", p.expired))
	}
	if p.filtered > 0 {
		facts = append(facts, fmt.Sprintf("%d batches lack what the store leaves out on purpose: their hashes fit", p.filtered))
	}
	if p.more > 0 {
		facts = append(facts, fmt.Sprintf("%d more findings are not listed", p.more))
	}
	return facts
}
