package main

import (
	"encoding/json"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	"github.com/picosnitch/picosnitch/host/internal/identity"
	"github.com/picosnitch/picosnitch/host/internal/journal"
	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// markOwed is where the journal keeps which hashes are owed.
const markOwed = "owed"

// owed are the hashes that records went out without. What is owed becomes durable with the records themselves, so that a host
// that is killed before the hash is known leaves the debt to the next one.
type owed struct {
	files   map[capture.FileKey][]*unhashed
	changed bool        // since mark
	earlier []*unhashed // left by an earlier host, not asked for yet
}

// unhashed are the records of one run that went out without the hash of one executable.
type unhashed struct {
	process     *wire.Process // one that runs it
	epoch       sdk.Epoch
	first, last uint64
}

// written is the form of unhashed in the journal.
type written struct {
	Process []byte // wire.Process
	Epoch   []byte
	First   uint64
	Last    uint64
}

// readOwed gives what an earlier host has left.
func readOwed(j *journal.Journal) (*owed, error) {
	o := &owed{files: map[capture.FileKey][]*unhashed{}}
	value, ok := j.Mark(markOwed)
	if !ok {
		return o, nil
	}
	var list []written
	if err := json.Unmarshal(value, &list); err != nil {
		return o, fmt.Errorf("read which hashes are owed: %w", err)
	}
	for _, w := range list {
		process := &wire.Process{}
		if err := proto.Unmarshal(w.Process, process); err != nil || len(w.Epoch) != len(sdk.Epoch{}) {
			return o, fmt.Errorf("read whose hash is owed: %w", err)
		}
		u := &unhashed{process: process, epoch: sdk.Epoch(w.Epoch), first: w.First, last: w.Last}
		key := fileKey(process.GetExecutable())
		o.files[key] = append(o.files[key], u)
		o.earlier = append(o.earlier, u)
	}
	return o, nil
}

// ask has the table find the hashes that an earlier host has left. It is called when the table knows the processes that ran
// before this host did.
func (o *owed) ask(table *identity.Table) {
	for _, u := range o.earlier {
		table.Owe(u.process)
	}
	o.earlier = nil
}

// note adds the records that are about to go out without a hash; they are numbered from next.
func (o *owed) note(records []*wire.Record, epoch sdk.Epoch, next uint64) {
	for i, r := range records {
		for _, process := range processesOf(r) {
			if process.GetExecutable().GetHashStatus() == wire.HashStatus_HASH_PENDING {
				o.add(process, epoch, next+uint64(i))
			}
		}
	}
}

func (o *owed) add(process *wire.Process, epoch sdk.Epoch, sequence uint64) {
	o.changed = true
	key := fileKey(process.GetExecutable())
	if runs := o.files[key]; len(runs) > 0 && runs[len(runs)-1].epoch == epoch {
		runs[len(runs)-1].last = sequence
		return
	}
	o.files[key] = append(o.files[key], &unhashed{process: bare(process), epoch: epoch, first: sequence, last: sequence})
}

// take removes what was owed for a file and gives it.
func (o *owed) take(file capture.FileKey) []*unhashed {
	runs := o.files[file]
	if runs != nil {
		delete(o.files, file)
		o.changed = true
	}
	return runs
}

// mark is what is owed now, for the journal; none if that did not change.
func (o *owed) mark() ([]journal.Mark, error) {
	if !o.changed {
		return nil, nil
	}
	var list []written
	for _, runs := range o.files {
		for _, u := range runs {
			process, err := proto.Marshal(u.process)
			if err != nil {
				return nil, fmt.Errorf("encode whose hash is owed: %w", err)
			}
			list = append(list, written{Process: process, Epoch: u.epoch[:], First: u.first, Last: u.last})
		}
	}
	value, err := json.Marshal(list)
	if err != nil {
		return nil, fmt.Errorf("encode which hashes are owed: %w", err)
	}
	o.changed = false
	return []journal.Mark{{Key: markOwed, Value: value}}, nil
}

// processesOf are those that a record describes.
func processesOf(r *wire.Record) []*wire.Process {
	if e := r.GetExec(); e != nil {
		return []*wire.Process{e.GetProcess(), e.GetParent(), e.GetGrandparent()}
	}
	f := r.GetFlow()
	return []*wire.Process{f.GetProcess(), f.GetParent(), f.GetGrandparent()}
}

// bare is what is needed of a process to find the hash of what it runs, and to tell it.
func bare(m *wire.Process) *wire.Process {
	e := m.GetExecutable()
	return &wire.Process{
		Id: m.GetId(), Name: m.GetName(), Ruid: m.GetRuid(), MountNamespace: m.GetMountNamespace(),
		Executable: &wire.Executable{
			Path: e.GetPath(), Scope: e.GetScope(), Superblock: e.GetSuperblock(), Device: e.GetDevice(), Inode: e.GetInode(),
			Ctime: e.GetCtime(), Size: e.GetSize(),
		},
	}
}

// withHash is the process with the hash that came late.
func withHash(m *wire.Process, late identity.Resolved) *wire.Process {
	out := bare(m)
	out.Executable.Sha256, out.Executable.HashStatus = late.SHA256, late.Status
	return out
}
