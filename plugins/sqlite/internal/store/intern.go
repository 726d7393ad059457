package store

import (
	"crypto/sha256"
	"database/sql/driver"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"time"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// grace is how much later than needed `seen` is set, so that a row in steady use is written a few times a day, not with
// every batch.
const grace = int64(6 * time.Hour)

// interner gives ids to what many flows share: text, addresses, executables, processes.
//
// A row's `seen` is never before the end of a flow that refers to it, directly or through a process. What refers to
// others passes its own `seen` on to them, so that they live at least as long.
type interner struct {
	conn    *conn
	columns map[string]int // position of each column in a flat row of a flow
	buf     []byte         // of the key being made
	caches  map[string]*cache
	seeds   [2]maphash.Seed
	fast    [3]*cache // actors, remotes and traits by what their records are made of
}

// The statements that add a row or prolong the life of the one that is there.
const (
	internText       = `INSERT INTO texts (key, seen, value, length, sha256) VALUES (?, ?, ?, ?, ?)` + prolong
	internAddress    = `INSERT INTO addresses (key, seen, value, ip) VALUES (?, ?, ?, ?)` + prolong
	internExecutable = `INSERT INTO executables (key, seen, exe, sha256, exe_scope, hash_status, script, package,
superblock, dev, inode, ctime, size) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)` + prolong
	internProcess = `INSERT INTO processes (key, seen, executable, cmdline, claimed_cmdline, cgroup, unit, container,
boot_id, name, tty, kernel, uid, pid, inner_pid, start_time, exec_id, euid, gid, loginuid, session, unit_verified,
pid_ns, mnt_ns) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)` + prolong
	prolong = ` ON CONFLICT (key) DO UPDATE SET seen = max(seen, excluded.seen) RETURNING id`

	internActor   = `INSERT INTO actors (key, seen, process, parent, grandparent, program) VALUES (?, ?, ?, ?, ?, ?)` + prolong
	internProgram = `INSERT INTO programs (key, seen, executable, name, uid, unit, container, pexecutable, pname, puid,
gexecutable, gname, guid) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)` + prolong
	internRemote = `INSERT INTO remotes (key, seen, raddr, domain, site, rport, direction, family, protocol)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)` + prolong
	internTrait = `INSERT INTO traits (key, seen, laddr, result, layer, peer, domain_source, mapped, netns, ifindex,
attribution, counting, existing, icmp_type, icmp_code) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)` + prolong

	internWindow = `INSERT INTO windows (ended, started, started_boot, ended_boot, zone_offset, contime)
VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET contime = contime RETURNING id`
)

func newInterner(c *conn) *interner {
	columns := make(map[string]int)
	for i, column := range sdk.Columns() {
		columns[column.Name] = i
	}
	return &interner{conn: c, columns: columns, caches: map[string]*cache{
		internText:       newCache(8192),
		internAddress:    newCache(8192),
		internExecutable: newCache(2048),
		internProcess:    newCache(8192),
		internWindow:     newCache(1024),
		internActor:      newCache(1024),
		internProgram:    newCache(2048),
		internRemote:     newCache(1024),
		internTrait:      newCache(1024),
	}, seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()},
		fast: [3]*cache{newCache(8192), newCache(8192), newCache(1024)}}
}

// forget drops the caches, after a rollback or when rows were removed.
func (in *interner) forget() {
	for _, c := range in.caches {
		c.clear()
	}
	for _, c := range in.fast {
		c.clear()
	}
}

// begin starts a key; part and number add fields to it, so that different fields never make the same key.
func (in *interner) begin() { in.buf = in.buf[:0] }

func (in *interner) part(s string) {
	in.buf = binary.AppendUvarint(in.buf, uint64(len(s)))
	in.buf = append(in.buf, s...)
}

func (in *interner) number(n uint64) { in.buf = binary.AppendUvarint(in.buf, n) }

func (in *interner) key() key {
	sum := sha256.Sum256(in.buf)
	return key(sum[:len(key{})])
}

// quick is a key of what is in memory only. Nobody outside knows the seeds, and 128 bits do not meet by chance.
func (in *interner) quick(raw []byte) (k key) {
	binary.LittleEndian.PutUint64(k[:8], maphash.Bytes(in.seeds[0], raw))
	binary.LittleEndian.PutUint64(k[8:], maphash.Bytes(in.seeds[1], raw))
	return k
}

// id finds or adds the row k of the table that statement fills. values gives the columns after key and seen; it is
// called only if the database must be asked, and interns what they refer to with the `seen` it is given.
func (in *interner) id(statement string, k key, until int64, values func(seen int64) ([]driver.Value, error)) (int64, error) {
	c := in.caches[statement]
	if have, ok := c.get(k); ok && have.seen >= until {
		return have.id, nil
	}
	seen := until + grace
	columns, err := values(seen)
	if err != nil {
		return 0, err
	}
	id, _, err := in.conn.number(statement, append([]driver.Value{k[:], seen}, columns...)...)
	if err != nil {
		return 0, err
	}
	c.put(k, cached{id: id, seen: seen})
	return id, nil
}

// text interns what stands in a column; t is the text that it was made of, nil for a text of our own.
func (in *interner) text(column string, t *wire.Text, until int64) (int64, error) {
	in.begin()
	in.number(0)
	in.part(column)
	length := uint64(0)
	if t.GetTruncated() {
		length = max(uint64(t.GetLength()), uint64(len(t.GetValue()))+1)
		in.number(length)
		in.part(string(t.GetSha256()))
	}
	return in.id(internText, in.key(), until, func(int64) ([]driver.Value, error) {
		return []driver.Value{column, int64(length), blob(t.GetSha256())}, nil
	})
}

// domain interns a name, turned round as the column has it. Its key is made of the name as it came, so that one that is
// known need not be turned round again.
func (in *interner) domain(t *wire.Text, until int64) (int64, error) {
	if t.GetTruncated() {
		return in.text(sdk.Reversed(t.GetValue()), t, until)
	}
	in.begin()
	in.number(1) // [interner.text] has a 0 here
	in.part(string(t.GetValue()))
	return in.id(internText, in.key(), until, func(int64) ([]driver.Value, error) {
		return []driver.Value{sdk.Reversed(t.GetValue()), int64(0), []byte{}}, nil
	})
}

func (in *interner) address(e *wire.Endpoint, until int64) (int64, error) {
	in.begin()
	in.part(string(e.GetIp()))
	for _, n := range []uint32{e.GetScopeId(), e.GetCid(), e.GetIfindex(), e.GetEthertype()} {
		in.number(uint64(n))
	}
	return in.id(internAddress, in.key(), until, func(int64) ([]driver.Value, error) {
		return []driver.Value{sdk.Address(e), blob(e.GetIp())}, nil
	})
}

// window interns a span of time. Its row lives as long as flows refer to it; nothing needs prolonging.
func (in *interner) window(w *wire.Window) (int64, error) {
	in.begin()
	for _, n := range []int64{w.GetEnd(), w.GetStart(), w.GetStartBoot(), w.GetEndBoot(), int64(w.GetZoneOffset())} {
		in.number(uint64(n))
	}
	c, k := in.caches[internWindow], in.key()
	if have, ok := c.get(k); ok {
		return have.id, nil
	}
	id, _, err := in.conn.number(internWindow, w.GetEnd(), w.GetStart(), w.GetStartBoot(), w.GetEndBoot(),
		int64(w.GetZoneOffset()), in.contime(w))
	if err != nil {
		return 0, fmt.Errorf("window: %w", err)
	}
	c.put(k, cached{id: id})
	return id, nil
}

// blob is b as a value that is never NULL.
func blob(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

func truth(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
