package store

import (
	"crypto/sha256"
	"database/sql/driver"
	"encoding/binary"
	"fmt"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
	"github.com/picosnitch/picosnitch/sdk/storekit"
)

// member is an interned row that flows refer to, and for an actor the program it belongs to.
type member struct{ id, program int64 }

// actor interns who exchanged something. segment is what [segments] gives for the flow's record.
func (in *interner) actor(segment []byte, f *wire.Flow, until int64) (member, error) {
	k := in.quick(segment)
	if have, ok := in.fast[0].get(k); ok && have.seen >= until {
		return member{have.id, have.program}, nil
	}
	var m member
	var err error
	sum := sha256.Sum256(segment)
	strong := key(sum[:len(key{})])
	m.id, err = in.id(internActor, strong, until, func(seen int64) ([]driver.Value, error) {
		var values []driver.Value
		for _, p := range []*wire.Process{f.GetProcess(), f.GetParent(), f.GetGrandparent()} {
			id, err := in.process(p, seen)
			if err != nil {
				return nil, err
			}
			values = append(values, id)
		}
		program, err := in.program(values, seen)
		return append(values, program), err
	})
	if err != nil {
		return member{}, fmt.Errorf("actor: %w", err)
	}
	// Asked for, since a row that was there keeps the program that it had.
	if m.program, _, err = in.conn.number("SELECT program FROM actors WHERE id = ?", m.id); err != nil {
		return member{}, fmt.Errorf("actor: %w", err)
	}
	have, _ := in.caches[internActor].get(strong)
	in.fast[0].put(k, cached{id: m.id, seen: have.seen, program: m.program})
	return m, nil
}

// program interns what the roll-ups carry of three processes. Its row prolongs the life of what it refers to by itself,
// since it may outlive the processes.
func (in *interner) program(processes []driver.Value, until int64) (int64, error) {
	var values []driver.Value
	in.begin()
	for i, p := range processes {
		row := make([]driver.Value, 5)
		if _, err := in.conn.row("SELECT executable, name, uid, unit, container FROM processes WHERE id = ?", row, p); err != nil {
			return 0, fmt.Errorf("program: %w", err)
		}
		if i > 0 {
			row = row[:3]
		}
		for _, v := range row {
			in.part(fmt.Sprint(v))
		}
		values = append(values, row...)
	}
	return in.id(internProgram, in.key(), until, func(seen int64) ([]driver.Value, error) {
		const unit, container = 3, 4
		for table, ids := range map[string][]driver.Value{
			"executables": {values[0], values[5], values[8]}, "texts": {values[unit], values[container]},
		} {
			for _, id := range ids {
				if _, err := in.conn.exec("UPDATE "+table+" SET seen = ?1 WHERE id = ?2 AND seen < ?1", seen, id); err != nil {
					return nil, err
				}
			}
		}
		return values, nil
	})
}

// remote interns the other end of a flow.
func (in *interner) remote(f *wire.Flow, until int64) (int64, error) {
	e, name := f.GetRemote(), f.GetDomain().GetName()
	in.begin()
	in.endpoint(e)
	in.part(string(name.GetValue()))
	if name.GetTruncated() {
		in.number(uint64(name.GetLength()))
		in.part(string(name.GetSha256()))
	}
	for _, n := range []int64{port(e), int64(f.GetDirection()), int64(f.GetFamily()), int64(f.GetProtocol())} {
		in.number(uint64(n))
	}
	return in.member(1, internRemote, until, func(seen int64) ([]driver.Value, error) {
		address, err := in.address(e, seen)
		if err != nil {
			return nil, err
		}
		domain, err := in.domain(name, seen)
		if err != nil {
			return nil, err
		}
		site := domain
		if text := storekit.Site(name.GetValue()); text != sdk.Reversed(name.GetValue()) || name.GetTruncated() {
			if site, err = in.text(text, nil, seen); err != nil {
				return nil, err
			}
		}
		return []driver.Value{address, domain, site, port(e), int64(f.GetDirection()), int64(f.GetFamily()),
			int64(f.GetProtocol())}, nil
	})
}

// trait interns how a flow was seen, and its near end.
func (in *interner) trait(f *wire.Flow, until int64) (int64, error) {
	in.begin()
	in.endpoint(f.GetLocal())
	numbers := [...]int64{int64(f.GetResult()), int64(f.GetLayer()), int64(f.GetPeer()), int64(f.GetDomain().GetSource()),
		truth(f.GetLocal().GetMapped() || f.GetRemote().GetMapped()), int64(f.GetNetns()), int64(f.GetIfindex()),
		int64(f.GetAttribution()), int64(f.GetCounting()), truth(f.GetExisting()), int64(f.GetIcmpType()),
		int64(f.GetIcmpCode())}
	for _, n := range numbers {
		in.number(uint64(n))
	}
	return in.member(2, internTrait, until, func(seen int64) ([]driver.Value, error) {
		address, err := in.address(f.GetLocal(), seen)
		values := []driver.Value{address}
		for _, n := range numbers {
			values = append(values, n)
		}
		return values, err
	})
}

// member is [interner.id] behind a cache whose key needs no cryptography; the key is what lies in the buffer.
func (in *interner) member(which int, statement string, until int64, values func(int64) ([]driver.Value, error)) (int64, error) {
	k := in.quick(in.buf)
	if have, ok := in.fast[which].get(k); ok && have.seen >= until {
		return have.id, nil
	}
	strong := in.key()
	id, err := in.id(statement, strong, until, values)
	if err != nil {
		return 0, err
	}
	have, _ := in.caches[statement].get(strong)
	in.fast[which].put(k, cached{id: id, seen: have.seen})
	return id, nil
}

// endpoint adds an address to the key that is being made.
func (in *interner) endpoint(e *wire.Endpoint) {
	in.buf = append(in.buf, byte(len(e.GetIp())))
	in.buf = append(in.buf, e.GetIp()...)
	for _, n := range [...]uint32{e.GetScopeId(), e.GetCid(), e.GetIfindex(), e.GetEthertype()} {
		in.buf = binary.AppendUvarint(in.buf, uint64(n))
	}
}
