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
	store    string // stands before findings; "": the one that is checked
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
	state wire.BatchEvidence_State
}

// told says whether the rows of the batch are all meant to be there, as they were delivered.
func (b batchProof) told() bool {
	return b.state == wire.BatchEvidence_SOUND || b.state == wire.BatchEvidence_ALTERED
}

// has tells whether there is a batch that begins with a sequence. No run has none.
func (e *epochProof) has(first uint64) bool {
	if e == nil {
		return false
	}
	_, have := e.batches[first]
	return have
}

// holds tells whether there is every batch of another proof.
func (p *proof) holds(other *proof) bool {
	for key, e := range other.epochs {
		for first, b := range e.batches {
			if b.whole && !p.epochs[key].has(first) {
				return false
			}
		}
	}
	return true
}

func newProof(store string) *proof { return &proof{store: store, epochs: map[epochKey]*epochProof{}} }

// take looks at a page, whose batches come in order within their epoch.
func (p *proof) take(page *wire.EvidencePage) error {
	for _, b := range page.GetBatches() {
		key := epochKey{string(b.GetHostId()), string(b.GetEpoch())}
		if len(b.GetExtra()) > 0 {
			p.find(key, "rows were added%s", sequencesText(b.GetExtra()))
		}
		if b.GetFirst() == 0 {
			continue // no batch: only such rows
		}
		if p.batches++; p.batches > maxProof {
			return fmt.Errorf("there are more than %d batches: check a shorter history", maxProof)
		}
		e := p.epochs[key]
		if e == nil {
			e = &epochProof{batches: map[uint64]batchProof{}}
			p.epochs[key] = e
			p.order = append(p.order, key)
		}
		p.judge(key, e, b)
		kept := batchProof{last: b.GetLast(), whole: len(b.GetRoot()) == sha256.Size, state: b.GetState()}
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
	text := key.String() + ": " + fmt.Sprintf(format, args...)
	if p.store != "" {
		text = p.store + ": " + text
	}
	p.findings = append(p.findings, text)
}

// judge finds what is wrong with a batch, and between it and the one before.
func (p *proof) judge(key epochKey, e *epochProof, b *wire.BatchEvidence) {
	switch b.GetState() {
	case wire.BatchEvidence_EXPIRED:
		p.expired++
	case wire.BatchEvidence_FILTERED:
		p.filtered++
	case wire.BatchEvidence_ALTERED:
		if uint64(len(b.GetMissing())) > b.GetLast()-b.GetFirst() {
			break // nothing is left of it
		}
		p.find(key, "records %d to %d were altered%s", b.GetFirst(), b.GetLast(), sequencesText(b.GetAltered()))
	}
	if len(b.GetMissing()) > 0 && b.GetState() != wire.BatchEvidence_EXPIRED {
		p.find(key, "of records %d to %d some are missing%s", b.GetFirst(), b.GetLast(), sequencesText(b.GetMissing()))
	}
	before := e.last
	if before == nil {
		before = &wire.BatchEvidence{} // a run begins with record 1
	}
	switch {
	case b.GetFirst() <= before.GetLast():
		p.find(key, "records %d to %d come a second time", b.GetFirst(), min(b.GetLast(), before.GetLast()))
	case b.GetFirst() > before.GetLast()+1 && !bridges(b):
		p.find(key, "records %d to %d are missing", before.GetLast()+1, b.GetFirst()-1)
	case b.GetFirst() == before.GetLast()+1 && !chained(before, b):
		p.find(key, "the batch of records %d to %d does not follow the one before it", b.GetFirst(), b.GetLast())
	}
}

// reaches finds what is missing at the end: records that the store once acknowledged, as the daemon knows.
func (p *proof) reaches(m mark) {
	if m.epoch == "" {
		return
	}
	key := epochKey{epoch: m.epoch}
	if len(p.order) > 0 {
		key.host = p.order[len(p.order)-1].host
	}
	switch e := p.epochs[key]; {
	case e == nil:
		p.find(key, "records 1 to %d are missing, which were stored", m.sequence)
	case e.last.GetLast() < m.sequence:
		p.find(key, "records %d to %d are missing, which were stored", e.last.GetLast()+1, m.sequence)
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
