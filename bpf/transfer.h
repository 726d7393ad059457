/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/* The ends of send and receive calls, in the context of the caller. */
#pragma once

#define PORT_DNS 53

#include "address.h"
#include "flow.h"

/* A call that failed leaves no address behind for the next one. */
static __always_inline int on_failure(struct sock *sk, struct task_struct *task)
{
	struct named_peer *peer = datagram(sk) ? note_of(task->pid) : NULL;

	if (peer)
		peer->fresh = 0;
	return 0;
}

static __always_inline void named(struct flow_key *key, const struct named_peer *peer)
{
	__builtin_memcpy(key->peer, peer->address, 16);
	key->peer_port = peer->port;
}

static __always_inline int mapped_v4(const __u8 *address)
{
	const __u32 *words = (const __u32 *)address;

	return !words[0] && !words[1] && words[2] == bpf_htonl(0xffff);
}

/*
 * Where the kernel notes that the parts of a datagram go which is sent in parts: only the first call names it. Port 0: it
 * has noted nothing. Of an IPv6 socket the note may be of IPv4 and does not say so.
 */
static __always_inline void corked_to(struct sock *sk, int v4, struct peer *to)
{
	struct inet_sock *inet = (struct inet_sock *)sk;

	if (v4 && can_follow()) {
		inet = follow_as(struct inet_sock, sk);
		to->port = bpf_ntohs(inet->cork.fl.u.ip4.uli.ports.dport);
		map_v4(to->address, inet->cork.fl.u.ip4.daddr);
	} else if (v4) {
		to->port = bpf_ntohs(BPF_CORE_READ(inet, cork.fl.u.ip4.uli.ports.dport));
		map_v4(to->address, BPF_CORE_READ(inet, cork.fl.u.ip4.daddr));
	} else {
		to->port = bpf_ntohs(BPF_CORE_READ(inet, cork.fl.u.ip6.uli.ports.dport));
		BPF_CORE_READ_INTO(&to->address, inet, cork.fl.u.ip6.daddr);
	}
}

/* A part that nothing but the kernel's note tells the peer of. */
static __always_inline void sent_as_corked(struct sock *sk, struct flow_key *key)
{
	struct peer to = {};

	if (key->family == AF_INET6)
		corked_to(sk, 0, &to);
	if (!to.port)
		corked_to(sk, 1, &to);
	__builtin_memcpy(key->peer, to.address, 16);
	key->peer_port = to.port;
	if (!to.port)
		key->peer_kind = PEER_UNKNOWN;
}

/*
 * A datagram may go where the kernel's note says, whatever peer the socket has: parts do, and over IPv4 all that comes after
 * them. If the two differ nobody can tell.
 */
static __always_inline void unless_corked(struct sock *sk, struct flow_key *key)
{
	struct peer to = {};

	corked_to(sk, mapped_v4(key->peer), &to);
	if (!to.port || (to.port == key->peer_port && same_address(to.address, key->peer)))
		return;
	__builtin_memset(key->peer, 0, 16);
	key->peer_port = 0;
	key->peer_kind = PEER_UNKNOWN;
}

/*
 * The peer of a datagram that was sent: the address that the call named, else the socket's own, else (the call added to a
 * datagram that is sent in parts) the one that this thread, or another, named with the first.
 */
static __always_inline void sent_to(struct sock *sk, struct task_struct *task, struct flow_key *key)
{
	struct named_peer *peer = note_of(task->pid);
	int mine = peer && peer->sending && peer->socket == key->socket;

	if (mine && peer->fresh) {
		peer->fresh = 0;
		named(key, peer);
		return;
	}
	if (sk->__sk_common.skc_state == TCP_ESTABLISHED) {
		socket_peer(sk, key);
	} else if (mine) {
		named(key, peer);
	} else {
		sent_as_corked(sk, key);
		return;
	}
	if (udp(sk))
		unless_corked(sk, key);
}

/* The peer of a packet that a raw or ICMP socket sent: where it went, if this thread sent the last one. */
static __always_inline void departed_to(struct sock *sk, struct flow_key *key)
{
	struct socket_state *state = bpf_sk_storage_get(&sockets, sk, 0, 0);

	if (state && state->peers[DEPARTED].state == SLOT_SET && state->peers[DEPARTED].generation == bpf_get_current_task()) {
		state->peers[DEPARTED].state = SLOT_FREE;
		__builtin_memcpy(key->peer, state->peers[DEPARTED].address, 16);
		key->peer_port = state->peers[DEPARTED].port;
	} else if (sk->__sk_common.skc_state == TCP_ESTABLISHED) {
		socket_peer(sk, key);
	} else {
		key->peer_kind = PEER_UNKNOWN;
	}
}

/*
 * The peer of a datagram that was received: the address that the call was told, else the socket's own, else the only one
 * that has delivered to this socket.
 */
static __always_inline void received_from(struct sock *sk, struct task_struct *task, struct flow_key *key, __u64 generation)
{
	struct named_peer *peer = note_of(task->pid);
	struct socket_state *state;
	struct peer *only;

	if (peer && peer->fresh && !peer->sending && (peer->socket == key->socket || !peer->socket)) {
		peer->fresh = 0;
		named(key, peer);
		return;
	}
	state = udp(sk) ? bpf_sk_storage_get(&sockets, sk, 0, 0) : NULL;
	only = state ? only_candidate(state, sk, generation) : NULL;
	if (sk->__sk_common.skc_state == TCP_ESTABLISHED) {
		socket_peer(sk, key);
		/* Datagrams that came before the connect may still have been queued. */
		if (!only || (only->port == key->peer_port && same_address(only->address, key->peer)))
			return;
	} else if (only) {
		__builtin_memcpy(key->peer, only->address, 16);
		key->peer_port = only->port;
		return;
	}
	__builtin_memset(key->peer, 0, 16);
	key->peer_port = 0;
	key->peer_kind = PEER_INFERRED;
}

/*
 * Beside a PEER_INFERRED flow stand entries without bytes for the peers that it may mean. The key is changed in place:
 * kernels before 6.13 allow 512 bytes of stack for a whole chain of calls.
 */
struct note {
	struct sock *sk;
	struct control *ctl;
	struct socket_state *state;
	struct flow_key *key;
};

static long note_candidate(__u64 index, void *context)
{
	struct note *n = context;
	struct count nothing = {};
	struct peer *p;

	if (index >= CANDIDATES)
		return 1;
	p = &n->state->peers[index];
	if (p->state != SLOT_SET)
		return 0;
	__builtin_memcpy(n->key->peer, p->address, 16);
	n->key->peer_port = p->port;
	if (!flow_of(n->ctl, n->key))
		first_count(n->sk, n->ctl, n->key, &nothing);
	return 0;
}

static __noinline int note_candidates(struct sock *sk, struct control *ctl, struct flow_key *key)
{
	struct note n = { .sk = sk, .ctl = ctl, .key = key };

	n.state = udp(sk) ? bpf_sk_storage_get(&sockets, sk, 0, 0) : NULL;
	key->peer_kind = PEER_CANDIDATE;
	if (n.state)
		bpf_loop(CANDIDATES, note_candidate, &n, 0);
	return 0;
}

/* The port that an SCTP packet came from. */
static __always_inline __u16 sctp_source(const struct sk_buff *skb)
{
	struct sctp_header header;

	if (bpf_probe_read_kernel(&header, sizeof(header.source), skb->head + skb->transport_header))
		return 0;
	return bpf_ntohs(header.source);
}

/* A packet is copied to the reader of a raw, ICMP or one-to-many SCTP socket: it tells where it came from. */
static __always_inline int on_copy(const struct sk_buff *skb)
{
	struct named_peer peer = { .fresh = 1 };
	struct sock *sk = skb->sk;
	struct ipv4_header v4;
	struct ipv6_header v6;
	void *header;

	if (!sk || !internet(sk->__sk_common.skc_family) || !bare(sk->sk_type, sk->sk_protocol) || !active())
		return 0;
	header = skb->head + skb->network_header;
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if (bpf_probe_read_kernel(&v4, sizeof(v4), header))
			return 0;
		map_v4(peer.address, v4.source);
	} else {
		if (bpf_probe_read_kernel(&v6, sizeof(v6), header))
			return 0;
		copy_v6(peer.address, v6.source);
	}
	if (sk->sk_protocol == IPPROTO_SCTP)
		peer.port = sctp_source(skb);
	peer.socket = sk->__sk_common.skc_cookie.counter; /* 0 if nobody has asked for it yet */
	name_peer(&peer);
	return 0;
}

static __always_inline void begin_key(struct sock *sk, struct flow_key *key)
{
	key->family = sk->__sk_common.skc_family;
	key->peer_kind = PEER_EXACT;
	key->local_port = sk->__sk_common.skc_num;
	key->socket = cookie_of(sk);
}

/* A connection that goes on in another window is still the same: who opened it is remembered with the socket. */
static __always_inline void recall(struct sock *sk, struct count *c)
{
	struct socket_state *state;

	if (sk->sk_type != SOCK_STREAM)
		return;
	state = bpf_sk_storage_get(&sockets, sk, 0, 0);
	if (!state || !state->direction)
		return;
	c->direction = state->direction;
	c->result = RESULT_OPEN;
}

static __always_inline void count_flow(struct sock *sk, struct control *ctl, const struct flow_key *key, struct count *c)
{
	struct flow *f = flow_of(ctl, key);

	if (f) {
		add(f, c);
		return;
	}
	recall(sk, c);
	first_count(sk, ctl, key, c);
}

static __always_inline int on_send(struct sock *sk, int length)
{
	struct control *ctl = active();
	struct flow_key key = {};
	struct count c = { .sends = 1 };
	struct task_struct *task;

	if (!ctl || !counted_family(sk->__sk_common.skc_family))
		return 0;
	task = bpf_get_current_task_btf();
	if (length < 0)
		return on_failure(sk, task);
	c.sent = length;
	begin_key(sk, &key);
	if (!datagram(sk)) {
		if (!length)
			return 0;
		socket_peer(sk, &key);
	} else if (udp(sk)) {
		sent_to(sk, task, &key);
	} else {
		departed_to(sk, &key);
	}
	set_caller(sk, task, &key, &c);
	count_flow(sk, ctl, &key, &c);
	return 0;
}

static __always_inline int on_receive(struct sock *sk, int length, int flags)
{
	struct control *ctl = active();
	struct flow_key key = {};
	struct count c = { .receives = 1 };
	struct task_struct *task;

	if (!ctl || !counted_family(sk->__sk_common.skc_family))
		return 0;
	task = bpf_get_current_task_btf();
	if (length < 0 || (flags & (MSG_PEEK | MSG_ERRQUEUE)))
		return on_failure(sk, task);
	c.received = length;
	begin_key(sk, &key);
	if (datagram(sk))
		received_from(sk, task, &key, ctl->generation);
	else if (length)
		socket_peer(sk, &key);
	else
		return 0;
	set_caller(sk, task, &key, &c);
	count_flow(sk, ctl, &key, &c);
	if (key.peer_kind == PEER_INFERRED)
		note_candidates(sk, ctl, &key);
	return 0;
}

/*
 * A call of a family that has no addresses as the internet has them. Asks nothing of the socket's storage: Debian's 6.1
 * kernel falls over a program that does, when it is attached to a function of a module.
 */
static __always_inline int on_other(struct sock *sk, int length, int flags, int sending)
{
	struct control *ctl = active();
	struct flow_key key = {};
	struct count c = {};
	struct flow *f;

	if (!ctl || length <= 0 || (flags & (MSG_PEEK | MSG_ERRQUEUE)) || !counted_family(sk->__sk_common.skc_family))
		return 0;
	if (sending) {
		c.sends = 1;
		c.sent = length;
	} else {
		c.receives = 1;
		c.received = length;
	}
	begin_key(sk, &key);
	key.peer_kind = PEER_UNKNOWN;
	set_caller(sk, bpf_get_current_task_btf(), &key, &c);
	f = flow_of(ctl, &key);
	if (f)
		add(f, &c);
	else
		first_count(sk, ctl, &key, &c);
	return 0;
}
