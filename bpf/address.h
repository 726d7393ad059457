/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/* The addresses of datagrams on sockets that have no peer: cgroup hooks, before the tracepoint of the same call. */
#pragma once

#include "socket.h"

/* The cookie of the socket that is called: the kernel is asked for it only if the socket has none yet. */
static __always_inline __u64 called_cookie(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	__u64 cookie = 0;

	if (sk && can_follow())
		cookie = follow_as(struct sock_common, sk)->skc_cookie.counter;
	return cookie ? cookie : bpf_get_socket_cookie(ctx);
}

static __always_inline int on_address(struct bpf_sock_addr *ctx, int v6, int sending)
{
	struct named_peer peer = { .fresh = 1, .sending = sending };
	__be32 words[4];

	if (!active())
		return 1;
	peer.socket = called_cookie(ctx);
	peer.port = bpf_ntohs((__u16)ctx->user_port);
	if (v6) {
		words[0] = ctx->user_ip6[0];
		words[1] = ctx->user_ip6[1];
		words[2] = ctx->user_ip6[2];
		words[3] = ctx->user_ip6[3];
		copy_v6(peer.address, words);
	} else {
		map_v4(peer.address, ctx->user_ip4);
	}
	name_peer(&peer);
	return 1;
}

struct ipv4_header {
	__u8 length : 4, version : 4;
	__u8 tos;
	__be16 total;
	__be16 id;
	__be16 fragment;
	__u8 ttl;
	__u8 protocol;
	__u16 check;
	__be32 source;
	__be32 destination;
};

struct ipv6_header {
	__u32 flow;
	__be16 payload;
	__u8 next;
	__u8 hops;
	__be32 source[4];
	__be32 destination[4];
};

/*
 * A part of a packet's headers, read where it lies: the kernel has them in one piece when a socket sends or is given a
 * packet. NULL if the packet is too short. Volatile, since the verifier knows only a fresh copy of either end as what it is.
 */
static __always_inline void *header_at(volatile struct __sk_buff *skb, __u32 offset, __u32 length)
{
	void *at = (void *)(long)skb->data + offset;

	return at + length > (void *)(long)skb->data_end ? NULL : at;
}

/* Where a packet's transport header begins, and which protocol it is; 0 if that cannot be told. */
static __always_inline __u32 transport_of(struct __sk_buff *skb, __u8 *protocol)
{
	struct ipv4_header *v4;
	struct ipv6_header *v6;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		v4 = header_at(skb, 0, sizeof(*v4));
		if (!v4)
			return 0;
		*protocol = v4->protocol;
		return v4->length * 4;
	}
	v6 = header_at(skb, 0, sizeof(*v6));
	if (!v6)
		return 0;
	*protocol = v6->next;
	return sizeof(*v6);
}

/* A port of a datagram or segment, in host order; 0 if it cannot be read. */
static __always_inline __u16 port_at(struct __sk_buff *skb, __u32 offset)
{
	__be16 *port = header_at(skb, offset, sizeof(*port));

	return port ? bpf_ntohs(*port) : 0;
}

/* Where a datagram came from, read from its headers; 0 if that cannot be told (IPv6 extension headers). */
static __always_inline int datagram_source(struct __sk_buff *skb, struct peer *from)
{
	struct ipv4_header *v4;
	struct ipv6_header *v6;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		v4 = header_at(skb, 0, sizeof(*v4));
		if (!v4)
			return 0;
		map_v4(from->address, v4->source);
		from->port = port_at(skb, v4->length * 4);
	} else {
		v6 = header_at(skb, 0, sizeof(*v6));
		if (!v6 || (v6->next != IPPROTO_UDP && v6->next != IPPROTO_UDPLITE))
			return 0;
		copy_v6(from->address, v6->source);
		from->port = port_at(skb, sizeof(*v6));
	}
	return 1;
}

struct sctp_header {
	__be16 source;
	__be16 destination;
	__be32 tag;
	__be32 checksum;
	__u8 chunk; /* type of the first one */
};

#define SCTP_DATA 0
#define SCTP_INIT 1

/* Whether the packet is what a call to send makes; acknowledgements and the like leave in anybody's context. */
static __always_inline int sctp_sent(struct __sk_buff *skb, __u32 offset, __u16 *port)
{
	struct sctp_header header;

	if (bpf_skb_load_bytes(skb, offset, &header, offsetof(struct sctp_header, chunk) + 1))
		return 0;
	*port = bpf_ntohs(header.destination);
	return header.chunk == SCTP_DATA || header.chunk == SCTP_INIT;
}

/*
 * A packet that leaves a raw, ICMP or one-to-many SCTP socket, in the context of its sender: no hook names the address that
 * the call gave, the packet does. It is noted with the socket, not the thread: the kernel's own ICMP answers leave in
 * anybody's context.
 */
static __always_inline void on_departure(struct __sk_buff *skb, struct bpf_sock *sk)
{
	struct socket_state *state;
	struct ipv4_header v4;
	struct ipv6_header v6;
	struct peer *to;
	__u32 transport;
	__u16 port = 0;

	if (!active())
		return;
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if (bpf_skb_load_bytes(skb, 0, &v4, sizeof(v4)))
			return;
		transport = v4.length * 4;
	} else {
		if (bpf_skb_load_bytes(skb, 0, &v6, sizeof(v6)))
			return;
		transport = sizeof(v6);
	}
	if (sk->protocol == IPPROTO_SCTP && !sctp_sent(skb, transport, &port))
		return;
	state = bpf_sk_storage_get(&sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!state) {
		lost(LOSS_SOCKET_STORAGE, 0, 0);
		return;
	}
	to = &state->peers[DEPARTED];
	if (skb->protocol == bpf_htons(ETH_P_IP))
		map_v4(to->address, v4.destination);
	else
		copy_v6(to->address, v6.destination);
	to->port = port;
	to->generation = bpf_get_current_task(); /* a cgroup program cannot ask for the thread's id before 6.10 */
	to->state = SLOT_SET;
}

/*
 * Delivery to a UDP socket without a peer: whoever reads it may not ask for the address. Returns the port that it came
 * from, 0 if that cannot be told.
 */
static __always_inline __u16 on_delivery(struct __sk_buff *skb, struct bpf_sock *sk)
{
	struct control *ctl = active();
	struct socket_state *state;
	struct peer from = {};

	if (!ctl)
		return 0;
	state = bpf_sk_storage_get(&sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!state) {
		lost(LOSS_SOCKET_STORAGE, 0, 0);
		return 0;
	}
	from.generation = ctl->generation;
	if (datagram_source(skb, &from))
		add_candidate(state, &from);
	else
		state->crowded = ctl->generation;
	return from.port;
}
