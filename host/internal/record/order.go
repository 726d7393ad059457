package record

import (
	"cmp"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// compareRows orders rows by process, then by peer, so that a window gives the same records in
// the same order however the kernel's map was walked.
func compareRows(a, b *row) int {
	// In steps, as cmp.Or computes all its arguments: the first step nearly always decides.
	if c := compareProcesses(a.process, b.process); c != 0 {
		return c
	}
	if c := compareEnds(a.remote, b.remote); c != 0 {
		return c
	}
	if c := compareEnds(a.local, b.local); c != 0 {
		return c
	}
	return compareRest(a, b)
}

func compareRest(a, b *row) int {
	return cmp.Or(
		cmp.Compare(a.layer, b.layer),
		cmp.Compare(a.protocol, b.protocol),
		cmp.Compare(a.family, b.family),
		cmp.Compare(a.direction, b.direction),
		cmp.Compare(a.result, b.result),
		cmp.Compare(a.peer, b.peer),
		cmp.Compare(a.netns, b.netns),
		cmp.Compare(a.ifindex, b.ifindex),
		cmp.Compare(a.domain, b.domain),
		cmp.Compare(a.attribution, b.attribution),
		cmp.Compare(a.counting, b.counting),
		compareFlags(a.mapped, b.mapped),
		compareFlags(a.existing, b.existing),
		compareProcesses(a.parent, b.parent),
		compareProcesses(a.grandparent, b.grandparent),
	)
}

func compareProcesses(a, b *wire.Process) int {
	if a == b {
		return 0
	}
	if c := cmp.Compare(a.GetId().GetTgid(), b.GetId().GetTgid()); c != 0 {
		return c
	}
	return cmp.Or(
		cmp.Compare(a.GetId().GetStartBoot(), b.GetId().GetStartBoot()),
		cmp.Compare(a.GetId().GetExecId(), b.GetId().GetExecId()),
		cmp.Compare(a.GetRuid(), b.GetRuid()),
		cmp.Compare(string(a.GetExecutable().GetPath().GetValue()), string(b.GetExecutable().GetPath().GetValue())),
		cmp.Compare(string(a.GetName().GetValue()), string(b.GetName().GetValue())),
	)
}

func compareEnds(a, b end) int {
	if c := a.addr.Compare(b.addr); c != 0 {
		return c
	}
	return cmp.Compare(a.port, b.port)
}

func compareFlags(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}
