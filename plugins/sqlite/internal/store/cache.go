package store

// key names a row of an interned table: the first half of the SHA-256 of what the row holds. Half is enough that nobody
// can make two rows meet, and a table keeps it instead of an index over the content.
type key [16]byte

// cached is what is known of an interned row without asking the database.
type cached struct {
	id      int64
	seen    int64 // not after the row's `seen`, see [interner]
	program int64 // of an actor
}

// cache remembers the rows used lately, at most twice its limit. It keeps two generations: when the younger one is
// full, the elder is forgotten and the younger takes its place, so that what is used again stays.
type cache struct {
	limit        int
	young, elder map[key]cached
}

func newCache(limit int) *cache {
	c := &cache{limit: limit}
	c.clear()
	return c
}

func (c *cache) get(k key) (cached, bool) {
	if v, ok := c.young[k]; ok {
		return v, true
	}
	v, ok := c.elder[k]
	if ok {
		c.put(k, v)
	}
	return v, ok
}

func (c *cache) put(k key, v cached) {
	if len(c.young) >= c.limit {
		c.elder, c.young = c.young, make(map[key]cached)
	}
	c.young[k] = v
}

// clear forgets everything; a transaction that is rolled back took its new rows with it.
func (c *cache) clear() {
	c.young = make(map[key]cached)
	c.elder = nil
}
