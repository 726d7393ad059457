package sdk

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// Hash is a SHA-256: of a record's canonical text, of a Merkle tree, or of a chain of batches.
type Hash = [sha256.Size]byte

// Seal sets the previous hash and the Merkle root of a batch that is otherwise complete, and returns the batch's own
// hash: the previous one of the next batch of the epoch. The first batch of an epoch has a previous of zeros.
func Seal(b *wire.Batch, previous Hash) (chain Hash) {
	root := batchRoot(b)
	b.Previous, b.Root = bytes.Clone(previous[:]), bytes.Clone(root[:])
	return Chain(b, previous, root)
}

// Check does for a batch what [Seal] did and compares. previous is the hash of the batch before it. The error wraps
// [ErrChain] and says what differs; the hash is the one that the batch's own contents give, also then.
func Check(b *wire.Batch, previous Hash) (chain Hash, err error) {
	root := batchRoot(b)
	chain = Chain(b, previous, root)
	switch {
	case !bytes.Equal(b.GetRoot(), root[:]):
		return chain, fmt.Errorf("%w: batch %d..%d: its records have the root %x, it says %x",
			ErrChain, b.GetFirst(), b.GetLast(), root, b.GetRoot())
	case !bytes.Equal(b.GetPrevious(), previous[:]):
		return chain, fmt.Errorf("%w: batch %d..%d: follows %x, it says %x",
			ErrChain, b.GetFirst(), b.GetLast(), previous, b.GetPrevious())
	}
	return chain, nil
}

// Chain is the hash of a batch: SHA-256 over previous, root, host id, epoch, first and last, the numbers as 8 bytes,
// most significant first. The batch's records are not looked at.
func Chain(b *wire.Batch, previous, root Hash) Hash {
	text := make([]byte, 0, 2*sha256.Size+2*16+2*8)
	text = append(text, previous[:]...)
	text = append(text, root[:]...)
	text = append(text, b.GetHostId()...)
	text = append(text, b.GetEpoch()...)
	text = binary.BigEndian.AppendUint64(text, b.GetFirst())
	text = binary.BigEndian.AppendUint64(text, b.GetLast())
	return sha256.Sum256(text)
}

// Leaf is the SHA-256 of the canonical text of a record: the word of its kind and the values of its columns, separated
// by TAB. The values may come from [Row] or from a database, which is how a database is checked.
func Leaf(kind Kind, row []Value) Hash { return sha256.Sum256(AppendCanonical(nil, kind, row)) }

// AppendCanonical appends the canonical text of a record. It is plain ASCII without line break or TAB but those between
// values: integers are decimal, and in text every byte above 0x7f becomes `\xNN`, so that it does not depend on which
// characters some version of Unicode calls printable.
func AppendCanonical(text []byte, kind Kind, row []Value) []byte {
	text = append(text, kind...)
	for i := range row {
		text = append(text, '\t')
		if row[i].integer {
			text = strconv.AppendInt(text, row[i].number, 10)
			continue
		}
		for s := row[i].text; len(s) > 0; {
			plain := 0
			for plain < len(s) && s[plain] < 0x80 {
				plain++
			}
			text = append(text, s[:plain]...)
			for s = s[plain:]; len(s) > 0 && s[0] >= 0x80; s = s[1:] {
				text = append(text, '\\', 'x', hexDigits[s[0]>>4], hexDigits[s[0]&15])
			}
		}
	}
	return text
}

// Root is the root of the Merkle tree over leaves: neighbours are joined as SHA-256(0x01, left, right) until one is
// left; one without a neighbour goes up unchanged. The root of no leaf is SHA-256 of nothing. leaves are not changed.
func Root(leaves []Hash) Hash {
	if len(leaves) == 0 {
		return sha256.Sum256(nil)
	}
	level := slices.Clone(leaves)
	var node [1 + 2*sha256.Size]byte
	node[0] = 1
	for len(level) > 1 {
		above := level[:0]
		for i := 0; i < len(level); i += 2 {
			if i+1 == len(level) {
				above = append(above, level[i])
				break
			}
			copy(node[1:], level[i][:])
			copy(node[1+sha256.Size:], level[i+1][:])
			above = append(above, sha256.Sum256(node[:]))
		}
		level = above
	}
	return level[0]
}

func batchRoot(b *wire.Batch) Hash {
	leaves := make([]Hash, 0, len(b.GetRecords()))
	var text []byte
	for r, row := range Rows(b) {
		text = AppendCanonical(text[:0], KindOf(r), row)
		leaves = append(leaves, sha256.Sum256(text))
	}
	return Root(leaves)
}
