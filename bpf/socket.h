/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/* What is remembered of a socket or a thread between two hooks: who listens or connects, and which peer a call means. */
#pragma once

#include "kind.h"

#define CANDIDATES 4

enum slot_state {
	SLOT_FREE = 0,
	SLOT_CLAIMED = 1, /* being written: counts as a peer that is not known */
	SLOT_SET = 2,
};

struct peer {
	__u8 address[16];
	__u16 port;
	__u16 pad;
	__u32 state;
	__u64 generation; /* it last delivered in; of DEPARTED: the thread that sent */
};

#define DEPARTED 0 /* of a raw or ICMP socket: where its last packet went. It has no candidates. */

enum connecting {
	CONNECT_NONE = 0,
	CONNECT_BEGUN = 1,   /* and not counted yet: the local port is not known */
	CONNECT_COUNTED = 2,
};

enum greeting {
	GREETING_NONE = 0,
	GREETING_EXPECTED = 1, /* connected, and nothing said yet */
	GREETING_TLS = 2,      /* began as TLS does */
};

struct socket_state {
	struct process_key owner; /* that listens or connects */
	__u32 uid;
	__u32 netns;
	__u32 copied;  /* TCP: how far tcp_sock.copied_seq had come at the last look */
	__u8 following; /* copied has been set */
	__u8 finished;  /* the FIN, which copied_seq counts too, has been taken out */
	__u8 greeting;  /* enum greeting: whether what this side says first may name the peer */
	__u8 connecting; /* enum connecting */
	__u32 direction; /* enum direction: who opened the connection */
	__u32 first_sent;     /* TCP: sequence number of the first byte in either direction */
	__u32 first_received;
	__u64 crowded; /* generation in which a peer found no slot */
	__u64 looked;  /* generation in which old peers were forgotten last */
	struct peer peers[CANDIDATES];
};

/*
 * Made when a socket listens, connects, or (UDP, not connected) gets its first datagram; the kernel removes it with the
 * socket. A listener's is cloned to the sockets that it accepts.
 */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct socket_state);
} sockets SEC(".maps");

/* The address that the call under way named, per thread. */
struct named_peer {
	__u64 socket; /* cookie */
	__u8 address[16];
	__u16 port;
	__u16 fresh; /* set by the address hook, cleared by the call's end */
	__u32 sending;
};

#define DESKS 16384

/* A place for the note of a thread. The first that needs it keeps it until it ends. */
struct desk {
	__u32 thread; /* that keeps it; 0: none */
	__u32 wanted; /* another one has wanted it, and may have its note in `threads` */
	struct named_peer note;
};

/* Asked twice in every call that names an address, once in others: an array, by the thread's number, is the quickest. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, DESKS);
	__type(key, __u32);
	__type(value, struct desk);
} desks SEC(".maps");

/*
 * Notes of threads whose desk another one keeps: inserted by the sendmsg and recvmsg hooks, updated in place, deleted when
 * the thread ends. When it is full the peer of a datagram is unknown; its bytes are not.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, struct named_peer);
} threads SEC(".maps");

static __always_inline struct desk *desk_of(__u32 thread)
{
	__u32 index = thread % DESKS;

	return bpf_map_lookup_elem(&desks, &index);
}

/* The note of a thread; NULL if it has none. */
static __always_inline struct named_peer *note_of(__u32 thread)
{
	struct desk *desk = desk_of(thread);

	if (!desk)
		return NULL;
	if (desk->thread == thread)
		return &desk->note;
	return desk->wanted ? bpf_map_lookup_elem(&threads, &thread) : NULL;
}

static __always_inline void map_v4(__u8 *address, __be32 v4)
{
	__u32 *words = (__u32 *)address;

	words[0] = 0;
	words[1] = 0;
	words[2] = bpf_htonl(0xffff);
	words[3] = v4;
}

static __always_inline void copy_v6(__u8 *address, const __be32 *v6)
{
	__u32 *words = (__u32 *)address;

	words[0] = v6[0];
	words[1] = v6[1];
	words[2] = v6[2];
	words[3] = v6[3];
}

static __always_inline int same_address(const __u8 *a, const __u8 *b)
{
	const __u64 *x = (const __u64 *)a, *y = (const __u64 *)b;

	return x[0] == y[0] && x[1] == y[1];
}

/* The peer of a call that named an address, noted before the call does its work. */
static __always_inline void name_peer(const struct named_peer *peer)
{
	__u32 thread = bpf_get_current_pid_tgid();
	struct desk *desk = desk_of(thread);

	if (!desk)
		return;
	if (desk->thread == thread || !__sync_val_compare_and_swap(&desk->thread, 0, thread)) {
		desk->note = *peer;
		return;
	}
	desk->wanted = 1;
	if (bpf_map_update_elem(&threads, &thread, peer, BPF_ANY))
		lost(LOSS_THREAD_FULL, 0, 0);
}

/* A thread ends. */
static __always_inline void leave_desk(__u32 thread)
{
	struct desk *desk = desk_of(thread);

	if (!desk)
		return;
	if (desk->thread == thread)
		desk->thread = 0;
	if (desk->wanted)
		bpf_map_delete_elem(&threads, &thread);
}

/* A datagram from a peer was delivered to a socket that has no peer of its own. Called in softirq, on any CPU. */
static __always_inline void add_candidate(struct socket_state *s, const struct peer *from)
{
	for (int i = 0; i < CANDIDATES; i++) {
		struct peer *p = &s->peers[i];

		if (p->state == SLOT_SET && p->port == from->port && same_address(p->address, from->address)) {
			p->generation = from->generation;
			return;
		}
	}
	for (int i = 0; i < CANDIDATES; i++) {
		struct peer *p = &s->peers[i];

		if (p->state == SLOT_FREE && __sync_val_compare_and_swap(&p->state, SLOT_FREE, SLOT_CLAIMED) == SLOT_FREE) {
			__builtin_memcpy(p->address, from->address, 16);
			p->port = from->port;
			p->generation = from->generation;
			p->state = SLOT_SET;
			return;
		}
	}
	s->crowded = from->generation;
}

/*
 * Once in a generation: peers that delivered in neither this one nor the one before are forgotten if nothing is queued,
 * since whatever they sent has been read.
 */
static __always_inline void forget_candidates(struct socket_state *s, struct sock *sk, __u64 generation)
{
	struct udp_sock *udp = (struct udp_sock *)sk;
	int queued = sk->sk_receive_queue.qlen || BPF_CORE_READ(udp, reader_queue.qlen);

	for (int i = 0; i < CANDIDATES; i++) {
		struct peer *p = &s->peers[i];

		if (p->state != SLOT_SET || p->generation + 1 >= generation)
			continue;
		if (queued)
			p->generation = generation;
		else
			p->state = SLOT_FREE;
	}
	if (queued && s->crowded)
		s->crowded = generation;
	s->looked = generation;
}

/* The only peer that a datagram without a name can have come from, or NULL when there are several or none. */
static __always_inline struct peer *only_candidate(struct socket_state *s, struct sock *sk, __u64 generation)
{
	struct peer *only = NULL;
	int several;

	if (s->looked != generation)
		forget_candidates(s, sk, generation);
	several = s->crowded && s->crowded + 1 >= generation;
	for (int i = 0; i < CANDIDATES; i++) {
		struct peer *p = &s->peers[i];

		if (p->state == SLOT_FREE)
			continue;
		if (only || p->state == SLOT_CLAIMED)
			several = 1;
		only = p;
	}
	return several ? NULL : only;
}
