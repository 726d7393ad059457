package journal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"

	bolt "go.etcd.io/bbolt"
)

// bbolt trusts the numbers in its file: a garbled page can send it round in circles, or have it ask for more memory than
// there is, and neither can be recovered from. So the pages are compared with each other before it opens the file. The
// format is that of bbolt's internal/common: numbers have the machine's byte order, which is little-endian wherever
// picosnitch runs.
const (
	pageHeader   = 16 // id 8, flags 2, count 2, overflow 4
	pageElement  = 16 // of a branch: position 4, key size 4, page 8; of a leaf: flags 4, position 4, key and value size 4 each
	metaSize     = 64
	bucketHeader = 16 // root page 8, sequence 8
	metaMagic    = 0xED0CDAED
	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagFreelist = 0x10
	maxHeight    = 16
)

// meta is what a meta page says of the file.
type meta struct {
	pageSize            uint64
	root, freelist, end uint64 // page numbers; end is the first that is not in use
	transaction         uint64
}

// structure checks a file page by page.
type structure struct {
	file io.ReaderAt
	meta
	seen map[uint64]bool // pages that have a purpose
}

// checkStructure reads the whole tree and the list of free pages of a file of size bytes. Errors wrap errDamaged.
func checkStructure(file io.ReaderAt, size int64) error {
	m, whole := newestMeta(file)
	switch {
	case whole == 0:
		return nil // bbolt says it better
	case whole == 1: // bbolt would quietly go back by one commit
		return fmt.Errorf("%w: one of the two roots", errDamaged)
	}
	if m.end < 2 || m.end > uint64(size)/m.pageSize {
		return fmt.Errorf("%w: %d bytes are not %d pages", errDamaged, size, m.end)
	}
	s := &structure{file: file, meta: m, seen: map[uint64]bool{0: true, 1: true}}
	if err := s.tree(m.root, 0, nil, nil); err != nil {
		return err
	}
	return s.free(m.freelist)
}

// newestMeta returns the meta page that bbolt will go by, and how many are whole: there should be two.
func newestMeta(file io.ReaderAt) (newest meta, whole int) {
	for _, at := range []int64{0, 4096, 8192, 16384, 65536} { // the second one follows a page of any usual size
		b := make([]byte, metaSize)
		if _, err := file.ReadAt(b, at+pageHeader); err != nil {
			break
		}
		word := func(i int) uint64 { return binary.LittleEndian.Uint64(b[i:]) }
		h := fnv.New64a()
		_, _ = h.Write(b[:metaSize-8])
		pageSize := uint64(binary.LittleEndian.Uint32(b[8:]))
		if binary.LittleEndian.Uint32(b) != metaMagic || h.Sum64() != word(56) || pageSize < 1024 {
			continue
		}
		if m := (meta{pageSize, word(16), word(32), word(40), word(48)}); whole == 0 || m.transaction > newest.transaction {
			newest = m
		}
		whole++
	}
	return newest, whole
}

// page takes a page out of those without a purpose and returns its kind, its length and count bytes after the header for
// each element.
func (s *structure) page(id uint64) (flags uint16, count int, elements []byte, length uint64, err error) {
	damage := fmt.Errorf("%w: page %d", errDamaged, id)
	b := make([]byte, pageHeader)
	if id >= s.end {
		return 0, 0, nil, 0, damage
	}
	if err := s.read(b, id, 0); err != nil {
		return 0, 0, nil, 0, err
	}
	flags, count = binary.LittleEndian.Uint16(b[8:]), int(binary.LittleEndian.Uint16(b[10:]))
	overflow := uint64(binary.LittleEndian.Uint32(b[12:]))
	if binary.LittleEndian.Uint64(b) != id || overflow >= s.end-id {
		return 0, 0, nil, 0, damage
	}
	for i := id; i <= id+overflow; i++ {
		if s.seen[i] {
			return 0, 0, nil, 0, damage
		}
		s.seen[i] = true
	}
	length = (overflow + 1) * s.pageSize
	if flags == flagFreelist {
		return flags, count, nil, length, nil
	}
	if pageHeader+uint64(count)*pageElement > length {
		return 0, 0, nil, 0, damage
	}
	elements = make([]byte, count*pageElement)
	return flags, count, elements, length, s.read(elements, id, pageHeader)
}

func (s *structure) read(b []byte, id, offset uint64) error {
	if _, err := s.file.ReadAt(b, int64(id*s.pageSize+offset)); err != nil {
		return fmt.Errorf("%w: read page %d: %w", errDamaged, id, err)
	}
	return nil
}

// tree checks a page and all below it. Its keys must be in order, from low up to, but not including, high; nil is no bound.
// A search goes by them, and would pass over what lies where it should not.
func (s *structure) tree(id uint64, height int, low, high []byte) error {
	flags, count, elements, length, err := s.page(id)
	if err != nil {
		return err
	}
	if height > maxHeight || flags != flagBranch && flags != flagLeaf || flags == flagBranch && count == 0 {
		return fmt.Errorf("%w: page %d is no part of a tree", errDamaged, id)
	}
	keys, err := s.keys(id, flags, elements, length)
	if err != nil {
		return err
	}
	if !ordered(keys, low, high) {
		return fmt.Errorf("%w: order of keys in page %d", errDamaged, id)
	}
	for i := range count {
		e, start := elements[i*pageElement:], uint64(pageHeader+i*pageElement)
		if flags == flagLeaf {
			err = s.leaf(id, e, start, length, height)
		} else {
			below := high
			if i+1 < count {
				below = keys[i+1]
			}
			err = s.tree(binary.LittleEndian.Uint64(e[8:]), height+1, keys[i], below)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// keys reads the keys of a page.
func (s *structure) keys(id uint64, flags uint16, elements []byte, length uint64) (keys [][]byte, err error) {
	for i := 0; i < len(elements); i += pageElement {
		e, start := elements[i:], uint64(pageHeader+i)
		if flags == flagLeaf {
			e = e[4:] // past its flags
		}
		size := binary.LittleEndian.Uint32(e[4:])
		if !fits(start, length, e[0:], e[4:]) || size > bolt.MaxKeySize {
			return nil, fmt.Errorf("%w: key %d of page %d", errDamaged, i/pageElement, id)
		}
		key := make([]byte, size)
		if err := s.read(key, id, start+uint64(binary.LittleEndian.Uint32(e))); err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// ordered tells whether keys grow, from low up to but not including high.
func ordered(keys [][]byte, low, high []byte) bool {
	for i, k := range keys {
		if i > 0 && bytes.Compare(keys[i-1], k) >= 0 || high != nil && bytes.Compare(k, high) >= 0 {
			return false
		}
	}
	return len(keys) == 0 || bytes.Compare(keys[0], low) >= 0
}

// fits tells whether parts, one behind the other from start, lie within length. The first is a distance, the others are
// sizes.
func fits(start, length uint64, parts ...[]byte) bool {
	for _, p := range parts {
		start += uint64(binary.LittleEndian.Uint32(p))
	}
	return start <= length
}

// leaf checks one key with its value, which may be a bucket: a tree of its own, or a small page inside the value.
func (s *structure) leaf(id uint64, e []byte, start, length uint64, height int) error {
	damage := fmt.Errorf("%w: value in page %d", errDamaged, id)
	if !fits(start, length, e[4:], e[8:], e[12:]) {
		return damage
	}
	isBucket, size := binary.LittleEndian.Uint32(e)&1 != 0, uint64(binary.LittleEndian.Uint32(e[12:]))
	if !isBucket {
		return nil
	}
	if size < bucketHeader {
		return damage
	}
	at := start + uint64(binary.LittleEndian.Uint32(e[4:])) + uint64(binary.LittleEndian.Uint32(e[8:]))
	value := make([]byte, size)
	if err := s.read(value, id, at); err != nil {
		return err
	}
	if root := binary.LittleEndian.Uint64(value); root != 0 {
		return s.tree(root, height+1, nil, nil)
	}
	inline := value[bucketHeader:]
	if len(inline) < pageHeader || binary.LittleEndian.Uint16(inline[8:]) != flagLeaf {
		return damage
	}
	var keys [][]byte
	for i := range int(binary.LittleEndian.Uint16(inline[10:])) {
		from := pageHeader + i*pageElement
		if from+pageElement > len(inline) {
			return damage
		}
		e := inline[from:]
		if binary.LittleEndian.Uint32(e) != 0 || !fits(uint64(from), uint64(len(inline)), e[4:], e[8:], e[12:]) {
			return damage
		}
		key := inline[from+int(binary.LittleEndian.Uint32(e[4:])):]
		keys = append(keys, key[:binary.LittleEndian.Uint32(e[8:])])
	}
	if !ordered(keys, nil, nil) {
		return damage
	}
	return nil
}

// free checks the list of free pages: together with those that were seen it must be all there are.
func (s *structure) free(id uint64) error {
	flags, count, _, length, err := s.page(id)
	if err != nil {
		return err
	}
	damage := fmt.Errorf("%w: list of free pages", errDamaged)
	n, from := uint64(count), uint64(pageHeader)
	if n == 0xffff { // then the first entry is the number
		b := make([]byte, 8)
		if err := s.read(b, id, from); err != nil {
			return err
		}
		n, from = binary.LittleEndian.Uint64(b), from+8
	}
	if flags != flagFreelist || n > s.end || from+8*n > length {
		return damage
	}
	ids := make([]byte, 8*n)
	if err := s.read(ids, id, from); err != nil {
		return err
	}
	for ; len(ids) > 0; ids = ids[8:] {
		page := binary.LittleEndian.Uint64(ids)
		if page >= s.end || s.seen[page] {
			return damage
		}
		s.seen[page] = true
	}
	if uint64(len(s.seen)) != s.end {
		return damage
	}
	return nil
}
