/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/* Which programs count, into which generation, and what was lost. */
#pragma once

#include "event.h"

/* The tag of this load: version, options and instance. Set by the host before loading. */
const volatile __u64 own_tag = 0;

/* The host's process, whose files the iterator file_keys tells. Set likewise. */
const volatile __u32 host_tgid = 0;

/*
 * Written by the host; a program writes only to switch itself off. Pinned: it outlives versions of the host, so its
 * layout never changes.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct control);
} control_word SEC(".maps");

/* Only ever added to, by every program; read by the host, which keeps what it has told already. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, LOSS_CAUSES);
	__type(key, __u32);
	__type(value, struct loss);
} losses SEC(".maps");

/* The control word if this program is to work, else NULL. */
static __always_inline struct control *active(void)
{
	__u32 zero = 0;
	struct control *c = bpf_map_lookup_elem(&control_word, &zero);

	if (!c || c->tag != own_tag)
		return NULL;
	return c;
}

static __always_inline void lost(__u32 cause, __u64 sent, __u64 received)
{
	struct loss *l = bpf_map_lookup_elem(&losses, &cause);

	if (!l)
		return;
	l->events++;
	l->sent += sent;
	l->received += received;
}

/*
 * A host that is gone for long must not leave probes behind that cost time and fill memory. Asked where a new entry is
 * made, which is rare, not for every packet.
 */
static __always_inline int expired(struct control *c, __u64 now)
{
	if (!c->deadline || now < c->deadline)
		return 0;
	c->tag = 0;
	lost(LOSS_EXPIRED, 0, 0);
	return 1;
}
