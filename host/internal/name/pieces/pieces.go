// Package pieces puts a stream together again from pieces that come in any order, twice, or never.
//
// Nothing in it allocates more than a [Buffer]'s limit, whatever offsets and lengths a sender claims.
package pieces

import (
	"errors"
	"slices"
)

// ErrFull is returned for a piece that reaches beyond the limit, or that leaves more holes than are kept track of.
var ErrFull = errors.New("more than the buffer may hold")

// maxSpans bounds how finely a stream may be shredded. Browsers cut a client hello into about ten pieces on purpose.
const maxSpans = 64

// Buffer holds the part of a stream from Base on. Its zero value holds nothing; New makes one that can. Where pieces
// overlap, the later one wins. A Buffer is not safe for use by several goroutines.
type Buffer struct {
	limit int
	base  uint64
	data  []byte // from base on; only what spans cover is meant
	spans []span // sorted, apart from each other
}

// span is a part of data that is there: [begin, end).
type span struct{ begin, end int }

// New gives a Buffer that begins at offset 0 and holds at most limit bytes.
func New(limit int) *Buffer { return &Buffer{limit: limit} }

// Base is the offset in the stream of the first byte of Bytes.
func (b *Buffer) Base() uint64 { return b.base }

// Size is the memory held, in bytes.
func (b *Buffer) Size() int { return cap(b.data) + 16*cap(b.spans) }

// Add copies a piece to its place. What lies before the base is ignored. After ErrFull the buffer is as it was.
func (b *Buffer) Add(offset uint64, piece []byte) error {
	if offset < b.base {
		skip := b.base - offset
		if skip >= uint64(len(piece)) {
			return nil
		}
		piece, offset = piece[skip:], b.base
	}
	if len(piece) == 0 {
		return nil
	}
	begin := offset - b.base
	if begin > uint64(b.limit) || len(piece) > b.limit-int(begin) {
		return ErrFull
	}
	added := span{int(begin), int(begin) + len(piece)}
	if len(b.spans) == maxSpans && !b.touches(added) {
		return ErrFull
	}
	if added.end > len(b.data) {
		b.data = slices.Grow(b.data, added.end-len(b.data))[:added.end]
	}
	copy(b.data[added.begin:], piece)
	b.insert(added)
	return nil
}

func (b *Buffer) touches(s span) bool {
	return slices.ContainsFunc(b.spans, func(o span) bool { return o.begin <= s.end && s.begin <= o.end })
}

// insert merges a span with those that it touches.
func (b *Buffer) insert(s span) {
	from := 0
	for from < len(b.spans) && b.spans[from].end < s.begin {
		from++
	}
	to := from
	for to < len(b.spans) && b.spans[to].begin <= s.end {
		s.begin, s.end = min(s.begin, b.spans[to].begin), max(s.end, b.spans[to].end)
		to++
	}
	b.spans = slices.Replace(b.spans, from, to, s)
}

// Bytes is what is there without a hole from the base on. It is valid until the next call of Add or Skip.
func (b *Buffer) Bytes() []byte {
	if len(b.spans) == 0 || b.spans[0].begin > 0 {
		return nil
	}
	return b.data[:b.spans[0].end]
}

// Next is the offset in the stream of the first byte behind the first hole, or of the end if there is none.
func (b *Buffer) Next() uint64 {
	for _, s := range b.spans {
		if s.begin > 0 {
			return b.base + uint64(s.begin)
		}
	}
	return b.base + uint64(len(b.Bytes()))
}

// Skip moves the base on by n bytes, whether they are there or not.
func (b *Buffer) Skip(n uint64) {
	b.base += n
	if n >= uint64(len(b.data)) {
		b.data, b.spans = b.data[:0], b.spans[:0]
		return
	}
	cut := int(n)
	b.data = b.data[:copy(b.data, b.data[cut:])]
	kept := b.spans[:0]
	for _, s := range b.spans {
		if s.end > cut {
			kept = append(kept, span{max(s.begin-cut, 0), s.end - cut})
		}
	}
	b.spans = kept
}
