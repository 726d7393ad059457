/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/*
 * What may name an address, handed to the host as it is: answers from port 53, and the first bytes of what a process that
 * connected says, if they look like TLS or QUIC. Nothing is parsed here.
 */
#pragma once

#include "address.h"
#include "process.h"
#include "transfer.h"

#define PORT_QUIC 443
#define TLS_HANDSHAKE 0x16
#define GREETING_BYTES 16384 /* no client hello is longer */
#define QUIC_LONG_HEADER 0xc0
#define TCP_SYN 0x02

struct tcp_header {
	__be16 source;
	__be16 destination;
	__be32 sequence;
	__be32 acknowledgement;
	__u8 reserved : 4, length : 4;
	__u8 flags;
	__be16 window;
	__be16 check;
	__be16 urgent;
};

/* Room to say what a payload is about; one for each CPU, since packets are processed in softirq. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct payload);
} abouts SEC(".maps");

static __always_inline void remote_of(struct __sk_buff *skb, struct payload *p)
{
	__be32 words[4];

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		words[0] = 0;
		bpf_skb_load_bytes(skb, p->received ? 12 : 16, words, 4);
		map_v4(p->remote, words[0]);
	} else {
		bpf_skb_load_bytes(skb, p->received ? 8 : 24, p->remote, 16);
	}
}

/*
 * Hands bytes of a packet to the host. Half of the ring is kept for execs. A function of its own, since some call it again
 * and again.
 */
static __noinline int hand_over(struct __sk_buff *skb, struct payload *about, __u32 at, __u64 offset)
{
	struct payload *p;
	__u32 length = skb->len - at;

	if (!about || skb->len <= at)
		return 0;
	if (bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) > bpf_ringbuf_query(&events, BPF_RB_RING_SIZE) / 2) {
		lost(LOSS_NAME_FULL, 0, 0);
		return 0;
	}
	p = bpf_ringbuf_reserve(&events, sizeof(*p), 0);
	if (!p) {
		lost(LOSS_NAME_FULL, 0, 0);
		return 0;
	}
	p->event = about->event;
	p->event.before = about->event.process;
	p->event.time = bpf_ktime_get_boot_ns();
	p->event.kind = EVENT_PAYLOAD;
	p->event.pad = 0;
	p->socket = about->socket;
	p->netns = about->netns;
	p->uid = about->uid;
	p->family = about->family;
	p->protocol = about->protocol;
	p->remote_port = about->remote_port;
	p->received = about->received;
	p->offset = offset;
	__builtin_memset(p->pad, 0, sizeof(p->pad));
	remote_of(skb, p);
	if (length > PAYLOAD_BYTES)
		length = PAYLOAD_BYTES;
	p->length = length;
	if (length == 0) {
		bpf_ringbuf_discard(p, 0);
		return 0;
	}
	barrier_var(length);
	length = ((length - 1) & (PAYLOAD_BYTES - 1)) + 1; /* 6.1 does not learn from the test that it is not 0 */
	if (bpf_skb_load_bytes(skb, at, p->data, length)) {
		bpf_ringbuf_discard(p, 0);
		return 0;
	}
	bpf_ringbuf_submit(p, wakeup(EVENT_PAYLOAD));
	return 0;
}

/* The same of a stream, whose packets are as long as the kernel likes before they meet a wire: what comes next must find no hole. */
static __always_inline void hand_over_all(struct __sk_buff *skb, struct payload *about, __u32 at, __u64 offset)
{
	for (int i = 0; i < GREETING_BYTES && at + i < skb->len; i += PAYLOAD_BYTES)
		hand_over(skb, about, at + i, offset + i);
}

static __always_inline void about_socket(struct payload *about, struct __sk_buff *skb, const struct socket_state *state)
{
	about->event.process = state->owner;
	about->socket = bpf_get_socket_cookie(skb);
	about->netns = state->netns;
	about->uid = state->uid;
}

/* An answer from port 53, to the process that asked last on this socket. */
static __always_inline void on_answer(struct __sk_buff *skb, struct bpf_sock *sk)
{
	struct socket_state *state = bpf_sk_storage_get(&sockets, sk, 0, 0);
	struct payload *about;
	struct tcp_header *tcp;
	__u32 zero = 0, transport, at;
	__u64 offset = 0;
	__u8 protocol = 0;

	about = bpf_map_lookup_elem(&abouts, &zero);
	if (!state || !state->owner.tgid || !about || !active())
		return;
	transport = transport_of(skb, &protocol);
	if (!transport || port_at(skb, transport) != PORT_DNS)
		return;
	if (protocol == IPPROTO_TCP) {
		tcp = header_at(skb, transport, sizeof(*tcp));
		if (!tcp)
			return;
		at = transport + tcp->length * 4;
		offset = bpf_ntohl(tcp->sequence) - state->first_received;
	} else {
		at = transport + 8;
	}
	about_socket(about, skb, state);
	about->protocol = protocol;
	about->remote_port = PORT_DNS;
	about->received = 1;
	if (protocol == IPPROTO_TCP)
		hand_over_all(skb, about, at, offset);
	else
		hand_over(skb, about, at, 0);
}

/* Whether this side has said so much that no greeting is to come. Of a socket that is not a TCP socket of its own: yes. */
static __always_inline int past_greeting(struct bpf_sock *sk)
{
	struct bpf_tcp_sock *tcp;
	__u64 acknowledged;

	if (sk->state == TCP_NEW_SYN_RECV || sk->state == TCP_TIME_WAIT)
		return 1; /* less than a socket */
	if (can_follow()) {
		acknowledged = follow_as(struct tcp_sock, sk)->bytes_acked;
		barrier_var(acknowledged); /* or both reads become one, of a pointer that 6.1 does not know */
		return acknowledged > GREETING_BYTES;
	}
	tcp = bpf_tcp_sock(sk);
	return !tcp || tcp->bytes_acked > GREETING_BYTES;
}

/*
 * The first bytes that a process which connected says, as long as they look like TLS. Almost every packet of a connection
 * comes too late for that, or says nothing: these are told without asking for anything.
 */
static __always_inline void on_greeting(struct __sk_buff *skb, struct bpf_sock *sk, __u32 transport)
{
	struct socket_state *state;
	struct payload *about;
	struct tcp_header *tcp;
	__u32 zero = 0, at, offset;
	__u16 port;
	__u8 first, begins;

	tcp = header_at(skb, transport, sizeof(*tcp));
	if (!tcp)
		return;
	at = transport + tcp->length * 4;
	begins = tcp->flags & TCP_SYN;
	offset = bpf_ntohl(tcp->sequence);
	port = bpf_ntohs(tcp->destination);
	if ((skb->len <= at && !begins) || past_greeting(sk))
		return;
	state = bpf_sk_storage_get(&sockets, sk, 0, 0);
	if (!state || !state->greeting || !active())
		return;
	about = bpf_map_lookup_elem(&abouts, &zero);
	if (!about)
		return;
	if (begins)
		state->first_sent = ++offset;
	if (skb->len <= at)
		return;
	offset -= state->first_sent;
	if (offset == 0) {
		if (bpf_skb_load_bytes(skb, at, &first, 1))
			return;
		state->greeting = first == TLS_HANDSHAKE ? GREETING_TLS : GREETING_NONE;
	}
	if (offset >= GREETING_BYTES)
		state->greeting = GREETING_NONE;
	if (state->greeting != GREETING_TLS)
		return;
	about_socket(about, skb, state);
	about->protocol = IPPROTO_TCP;
	about->remote_port = port;
	about->received = 0;
	hand_over_all(skb, about, at, offset);
}

/* A question to a name server is about to leave, in the context of its sender: the answer is for him. */
static __always_inline void on_ask(struct bpf_sock *sk)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct socket_state *state;

	sk = bpf_sk_fullsock(sk);
	if (!sk || !active())
		return;
	state = bpf_sk_storage_get(&sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!state) {
		lost(LOSS_SOCKET_STORAGE, 0, 0);
		return;
	}
	process_of(task, &state->owner);
	state->uid = task->real_cred->uid.val;
	if (can_follow())
		state->netns = follow_as(struct sock_common, sk)->skc_net.net->ns.inum;
	else
		state->netns = BPF_CORE_READ(task, nsproxy, net_ns, ns.inum);
}

/* A long-header packet to the port of QUIC, in the context of its sender. */
static __always_inline void on_quic(struct __sk_buff *skb, __u32 transport)
{
	struct task_struct *task;
	struct payload *about;
	__u32 zero = 0;
	__u8 first;

	if (bpf_skb_load_bytes(skb, transport + 8, &first, 1) || (first & QUIC_LONG_HEADER) != QUIC_LONG_HEADER)
		return;
	about = bpf_map_lookup_elem(&abouts, &zero);
	if (!about || !active())
		return;
	task = bpf_get_current_task_btf();
	process_of(task, &about->event.process);
	about->socket = bpf_get_socket_cookie(skb);
	about->netns = BPF_CORE_READ(task, nsproxy, net_ns, ns.inum);
	about->uid = BPF_CORE_READ(task, real_cred, uid.val);
	about->protocol = IPPROTO_UDP;
	about->remote_port = PORT_QUIC;
	about->received = 0;
	hand_over(skb, about, transport + 8, 0);
}
