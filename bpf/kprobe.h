/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/*
 * The ends of send and receive calls where the kernel has neither the tracepoints nor fexit (arm64 before 6.3): kprobes
 * where the calls begin and end. Such a program may not ask for a socket's storage or cookie, and follows no pointer but
 * by copying: it works on a copy of the socket, at the kernel's own offsets.
 */
#pragma once

#include "call.h"
#include "resolve.h"

struct msghdr {
	void *msg_name;
} __attribute__((preserve_access_index));

#define SOCKET_COPY 2048

struct socket_copy {
	__u8 bytes[SOCKET_COPY];
};

/* Where programs copy the socket to; nothing interrupts them. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct socket_copy);
} socket_copies SEC(".maps");

static __always_inline int on_call(void *registers, __u64 direction)
{
	__u64 key = bpf_get_current_pid_tgid() | direction;
	struct socket *socket = (struct socket *)argument(registers, 0);
	struct call c = {};

	if (!active())
		return 0;
	c.socket = (__u64)BPF_CORE_READ(socket, sk);
	if (!direction)
		c.flags = argument(registers, 3);
	if (bpf_map_lookup_elem(&calls, &key) || bpf_map_update_elem(&calls, &key, &c, BPF_NOEXIST)) {
		lost(LOSS_CALL, 0, 0);
		bpf_map_update_elem(&calls, &key, &c, BPF_EXIST);
	}
	return 0;
}

static __always_inline int on_page_call(void *registers)
{
	struct socket *socket = (struct socket *)argument(registers, 0);
	struct sock *sk = BPF_CORE_READ(socket, sk);
	__u16 protocol = BPF_CORE_READ(sk, sk_protocol);

	return takes_pages(protocol) ? on_call(registers, CALL_SENDS) : 0;
}

/* Notes where a raw or ICMP socket sends to. Of the others cgroup hooks tell. */
static __always_inline int on_named_send(void *registers)
{
	struct socket *socket = (struct socket *)argument(registers, 0);
	struct msghdr *message = (struct msghdr *)argument(registers, 1);
	struct sock *sk = BPF_CORE_READ(socket, sk);
	struct named_peer peer = { .fresh = 1, .sending = 1 };
	void *name = BPF_CORE_READ(message, msg_name);
	__u16 family = 0;
	__be32 v4 = 0;

	on_call(registers, CALL_SENDS);
	if (!active() || !name || !bare(BPF_CORE_READ(sk, sk_type), BPF_CORE_READ(sk, sk_protocol)))
		return 0;
	bpf_probe_read_kernel(&family, sizeof(family), name);
	if (family == AF_INET6) {
		bpf_probe_read_kernel(peer.address, 16, name + 8);
	} else {
		bpf_probe_read_kernel(&v4, sizeof(v4), name + 4);
		map_v4(peer.address, v4);
	}
	if (BPF_CORE_READ(sk, sk_protocol) == IPPROTO_SCTP)
		bpf_probe_read_kernel(&peer.port, sizeof(peer.port), name + 2);
	peer.port = bpf_ntohs(peer.port);
	peer.socket = BPF_CORE_READ(sk, __sk_common.skc_cookie.counter);
	name_peer(&peer);
	return 0;
}

/* A datagram is handed to its reader, who may not ask where it comes from. */
static __always_inline int on_consumed(void *registers)
{
	struct sk_buff *skb = (struct sk_buff *)argument(registers, 1);
	void *head = BPF_CORE_READ(skb, head), *header = head + BPF_CORE_READ(skb, network_header);
	struct named_peer peer = { .fresh = 1 };
	struct ipv4_header v4;
	struct ipv6_header v6;

	if (!active())
		return 0;
	if (BPF_CORE_READ(skb, protocol) == bpf_htons(ETH_P_IP)) {
		if (bpf_probe_read_kernel(&v4, sizeof(v4), header))
			return 0;
		map_v4(peer.address, v4.source);
	} else {
		if (bpf_probe_read_kernel(&v6, sizeof(v6), header))
			return 0;
		copy_v6(peer.address, v6.source);
	}
	bpf_probe_read_kernel(&peer.port, sizeof(peer.port), head + BPF_CORE_READ(skb, transport_header));
	peer.port = bpf_ntohs(peer.port);
	name_peer(&peer);
	return 0;
}

/* Where a datagram came from that this thread has received. */
static __always_inline void told_from(struct sock *sk, struct task_struct *task, struct flow_key *key)
{
	struct named_peer *peer = note_of(task->pid);

	if (peer && peer->fresh && !peer->sending) {
		peer->fresh = 0;
		named(key, peer);
	} else if (sk->__sk_common.skc_state == TCP_ESTABLISHED) {
		socket_peer(sk, key);
	} else {
		key->peer_kind = PEER_UNKNOWN;
	}
}

/* As kernel_owned, of a copy. */
static __always_inline int kernel_owns(struct sock *sk)
{
	struct socket *socket = sk->sk_socket;

	return socket && (!BPF_CORE_READ(socket, file) || (BPF_CORE_READ_BITFIELD(sk, sk_kern_sock) && sk->sk_user_data));
}

/* Counts what a call has moved. */
static __always_inline int count_call(struct sock *sk, __u64 identity, __u64 sends, int length)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct control *ctl = active();
	struct flow_key key = {};
	struct count c = {};
	struct flow *f;

	if (!ctl)
		return 0;
	key.family = sk->__sk_common.skc_family;
	key.peer_kind = PEER_EXACT;
	key.local_port = sk->__sk_common.skc_num;
	key.socket = sk->__sk_common.skc_cookie.counter;
	if (!key.socket)
		key.socket = identity;
	if (!datagram(sk)) {
		if (!length)
			return 0;
		internet_peer(sk, &key);
	} else if (!sends) {
		told_from(sk, task, &key);
	} else {
		sent_to(sk, task, &key);
	}
	if (sends) {
		c.sends = 1;
		c.sent = length;
	} else {
		c.receives = 1;
		c.received = length;
	}
	if (kernel_owns(sk))
		c.flags = FLOW_KERNEL;
	else
		process_of(task, &key.process);
	f = flow_of(ctl, &key);
	if (f)
		add(f, &c);
	else
		first_count(sk, ctl, &key, &c);
	return 0;
}

static __always_inline int on_called(void *registers, __u64 direction)
{
	__u64 thread = bpf_get_current_pid_tgid(), key = thread | direction;
	struct call *c = bpf_map_lookup_elem(&calls, &key);
	int length = argument(registers, -1);
	__u32 zero = 0, flags, size = bpf_core_type_size(struct inet_sock);
	struct socket_copy *copy = bpf_map_lookup_elem(&socket_copies, &zero);
	struct named_peer *peer;
	struct sock *sk;

	if (!c || !copy)
		return 0;
	sk = (struct sock *)c->socket;
	flags = c->flags;
	bpf_map_delete_elem(&calls, &key);
	if (!internet(BPF_CORE_READ(sk, __sk_common.skc_family)))
		return 0;
	if (length < 0 || (flags & (MSG_PEEK | MSG_ERRQUEUE))) {
		peer = note_of(thread); /* leaves no address behind for the next call */
		if (peer)
			peer->fresh = 0;
		return 0;
	}
	if (bpf_probe_read_kernel(copy, size < SOCKET_COPY ? size : SOCKET_COPY, sk))
		return 0;
	return count_call((struct sock *)copy, (__u64)sk, direction, length);
}
