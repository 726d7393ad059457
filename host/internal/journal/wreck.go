package journal

import (
	"encoding/binary"
	"io"
	"os"
)

// maxLeaf bounds what a page and those that continue it can have: two batches of the largest size and their neighbours.
const maxLeaf = 16 << 20

// wreck reads a damaged file: every page that makes sense, and nothing that bbolt would have to be trusted for.
type wreck struct {
	file     io.ReaderAt
	pageSize uint64
	end      uint64 // number of pages
	seen     map[uint64]bool
	lost     map[string]bool // buckets of which a part cannot be read; "" is the list of buckets
	named    map[string]bool // buckets that were found
	found    func(pair)
}

// pair is a key with the place of its value in the file.
type pair struct {
	bucket string // "": on a page that belongs to nothing
	key    []byte
	value  []byte
	at     int64 // of the value in the file
	stray  bool  // on a page that nothing led to: it may be old
}

// survey reads everything and calls found for each pair. Pages that no others lead to are looked at last, and only if
// batches, or the way to them, are missing: most of them are old.
func survey(file io.ReaderAt, size int64, found func(pair)) *wreck {
	w := &wreck{
		file: file, pageSize: uint64(os.Getpagesize()), found: found,
		seen: map[uint64]bool{}, lost: map[string]bool{}, named: map[string]bool{},
	}
	m, whole := newestMeta(file)
	if whole > 0 {
		w.pageSize = m.pageSize
	}
	w.end = uint64(size) / w.pageSize
	if whole > 0 {
		w.tree(m.root, 0, "")
	}
	w.lost[""] = w.lost[""] || whole < 2 // the newest state may be the one without a root
	for _, name := range mustHave() {
		w.lost[""] = w.lost[""] || !w.named[name]
	}
	if w.lost[""] || w.lost[nameBatches] {
		w.strays()
	}
	return w
}

// leafOrBranch reads a page with those that continue it; nil when it makes no sense.
func (w *wreck) leafOrBranch(id uint64) []byte {
	header := make([]byte, pageHeader)
	if id < 2 || id >= w.end || w.seen[id] {
		return nil
	}
	if _, err := w.file.ReadAt(header, int64(id*w.pageSize)); err != nil {
		return nil
	}
	flags, overflow := binary.LittleEndian.Uint16(header[8:]), uint64(binary.LittleEndian.Uint32(header[12:]))
	size := (overflow + 1) * w.pageSize
	if binary.LittleEndian.Uint64(header) != id || flags != flagBranch && flags != flagLeaf || size > maxLeaf || overflow >= w.end-id {
		return nil
	}
	page := make([]byte, size)
	if _, err := w.file.ReadAt(page, int64(id*w.pageSize)); err != nil {
		return nil
	}
	for i := id; i <= id+overflow; i++ {
		w.seen[i] = true
	}
	return page
}

// tree reads a page of a bucket and all below it.
func (w *wreck) tree(id uint64, height int, bucket string) {
	page := w.leafOrBranch(id)
	if page == nil || height > maxHeight {
		w.lost[bucket] = true
		return
	}
	if binary.LittleEndian.Uint16(page[8:]) == flagLeaf {
		w.leaf(page, int64(id*w.pageSize), bucket, false)
		return
	}
	for i := range int(binary.LittleEndian.Uint16(page[10:])) {
		at := pageHeader + i*pageElement
		if at+pageElement > len(page) {
			w.lost[bucket] = true
			return
		}
		w.tree(binary.LittleEndian.Uint64(page[at+8:]), height+1, bucket)
	}
}

// leaf reads the pairs of a page that begins at an offset in the file. Those of a stray page belong to no bucket, and the
// buckets on it may be old ones.
func (w *wreck) leaf(page []byte, offset int64, bucket string, stray bool) {
	for i := range int(binary.LittleEndian.Uint16(page[10:])) {
		at := uint64(pageHeader + i*pageElement)
		if at+pageElement > uint64(len(page)) {
			w.lost[bucket] = true
			return
		}
		e := page[at:]
		key := at + uint64(binary.LittleEndian.Uint32(e[4:]))
		value := key + uint64(binary.LittleEndian.Uint32(e[8:]))
		end := value + uint64(binary.LittleEndian.Uint32(e[12:]))
		if key > value || value > end || end > uint64(len(page)) {
			w.lost[bucket] = true
			continue
		}
		p := pair{bucket: bucket, key: page[key:value], value: page[value:end], at: offset + int64(value), stray: stray}
		switch {
		case binary.LittleEndian.Uint32(e)&1 == 0:
			w.found(p)
		case bucket == "":
			w.sub(p, stray)
		}
	}
}

// sub reads a bucket: a tree of its own, or a small page inside the value.
func (w *wreck) sub(p pair, stray bool) {
	name := string(p.key)
	w.named[name] = w.named[name] || !stray
	if len(p.value) < bucketHeader+pageHeader && (len(p.value) < bucketHeader || binary.LittleEndian.Uint64(p.value) == 0) {
		w.lost[name] = true
		return
	}
	switch root := binary.LittleEndian.Uint64(p.value); {
	case root == 0:
		w.leaf(p.value[bucketHeader:], p.at+bucketHeader, name, stray)
	case !stray:
		w.tree(root, 1, name)
	}
}

// strays reads the leaves that nothing led to.
func (w *wreck) strays() {
	for id := uint64(2); id < w.end; id++ {
		page := w.leafOrBranch(id)
		if page != nil && binary.LittleEndian.Uint16(page[8:]) == flagLeaf {
			w.leaf(page, int64(id*w.pageSize), "", true)
		}
	}
}
