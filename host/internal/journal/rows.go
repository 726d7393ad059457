package journal

import (
	"bytes"
	"slices"
)

// rows are the small values of a damaged file.
type rows struct {
	wreck  *wreck
	good   map[string][]pair // by bucket, those that prove good, without their checksums; those that a tree led to first
	plain  []pair            // those that do not
	bad    map[string]int    // by bucket, how many do not
	sealed bool              // the file has checksums: it is of format 2
	past   bool              // a stray page has some: the file is, or was, of format 2
}

// add takes a row. One of a stray page belongs to the bucket that its checksum says.
func (r *rows) add(p pair) {
	names := []string{p.bucket}
	if p.bucket == "" {
		names = append(sealedBuckets(), nameMeta)
	}
	if !r.take(p, names) && p.bucket != "" {
		r.plain = append(r.plain, clone(p))
	}
}

func clone(p pair) pair {
	p.key, p.value = bytes.Clone(p.key), bytes.Clone(p.value)
	return p
}

// sort says what the rows without a checksum are: damaged; or, in a file of format 1, all there is.
func (r *rows) sort() {
	plain := func(p pair) bool { return !p.stray && p.bucket != nameMeta }
	r.sealed = r.sealed || r.past && !slices.ContainsFunc(r.plain, plain)
	for _, p := range r.plain {
		switch {
		case p.bucket == nameMeta && string(p.key) != keyState || p.stray && r.sealed:
		case r.sealed:
			r.bad[p.bucket]++
		default:
			r.good[p.bucket] = append(r.good[p.bucket], p)
		}
	}
	r.plain = nil
	s, counted := r.state()
	for name, n := range map[string]uint32{nameCursors: s.cursors, nameHoles: s.holes, nameRetries: s.retries} {
		if counted && r.inTree(name) != int(n) {
			r.bad[name]++
		}
	}
}

// inTree counts the rows of a bucket that the newest root led to.
func (r *rows) inTree(name string) (n int) {
	for _, p := range r.good[name] {
		if !p.stray {
			n++
		}
	}
	return n
}

// take takes a row that proves good in one of the buckets.
func (r *rows) take(p pair, names []string) bool {
	for _, name := range names {
		if v, err := unseal(name, p.key, p.value); err == nil {
			p = clone(p)
			p.bucket, p.value = name, p.value[:len(v)]
			r.good[name] = append(r.good[name], p)
			r.sealed, r.past = r.sealed || !p.stray, r.past || p.stray
			return true
		}
	}
	return false
}

// gone tells whether pages of a bucket, or the way to it, are missing.
func (r *rows) gone(name string) bool { return r.wreck.lost[name] || r.wreck.lost[""] }

// lost tells whether something of a bucket may be missing, or be an old state.
func (r *rows) lost(name string) bool { return r.gone(name) || r.bad[name] > 0 }

// state is the furthest that is there. counted tells whether it is that of the last commit, and its numbers hold.
func (r *rows) state() (newest state, counted bool) {
	for _, p := range r.good[nameMeta] {
		s, err := decodeState(p.value)
		if err != nil || string(p.key) != keyState {
			continue
		}
		if !p.stray && !r.gone(nameMeta) {
			return s, true
		}
		if !s.from.before(newest.from) {
			newest = s
		}
	}
	return newest, false
}
