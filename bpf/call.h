/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/*
 * Calls under way, where a call is counted by a program at its end which the kernel may leave out: a kretprobe when too many
 * calls wait, fexit when any program, of anybody, is attached to the same function or taken away while the call waits for
 * bytes. A call that a thread began and whose end was not seen is found when the thread begins the next one, or ends.
 */
#pragma once

#include "mapped.h"

#define CALL_SENDS (1ULL << 31) /* no thread has a number as high */

struct call {
	__u64 socket; /* kprobes: struct sock; else its cookie */
	__u32 flags;
	__u32 copied; /* tcp_sock.copied_seq when the call began */
	__u32 taken;  /* bytes by which the call has moved it */
	__u32 pad;
};

/*
 * Inserted where a call begins, deleted where it ends: one to send and one to receive for each thread. Kprobes need it; for
 * fexit a call that finds it full is one whose end may be missed in silence.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, __u64); /* pid_tgid, CALL_SENDS */
	__type(value, struct call);
} calls SEC(".maps");

/* What a receive has taken out of a TCP socket whose end was not seen: the same call, counted by its thread's next one. */
static __always_inline void count_taken(struct sock *sk, struct control *ctl, __u32 taken)
{
	struct count c = { .receives = 1, .received = taken };
	struct flow_key key = {};

	begin_key(sk, &key);
	internet_peer(sk, &key);
	set_caller(sk, bpf_get_current_task_btf(), &key, &c);
	count_flow(sk, ctl, &key, &c);
}

/* A call begins, where fexit counts at its end. */
static __always_inline int on_begin(struct sock *sk, __u64 direction)
{
	__u64 key = bpf_get_current_pid_tgid() | direction;
	struct call c = {}, *missed = bpf_map_lookup_elem(&calls, &key);
	struct control *ctl = active();
	struct tcp_sock *tcp;

	if (!ctl || !counted_family(sk->__sk_common.skc_family))
		return 0;
	c.socket = cookie_of(sk);
	if (missed) {
		if (missed->taken && missed->socket == c.socket)
			count_taken(sk, ctl, missed->taken);
		else
			lost(LOSS_CALL, 0, missed->taken);
	}
	tcp = direction ? NULL : bpf_skc_to_tcp_sock(sk);
	if (tcp)
		c.copied = tcp->copied_seq;
	bpf_map_update_elem(&calls, &key, &c, BPF_ANY);
	return 0;
}

/* Bytes leave a TCP socket, in the context of who takes them: a receive call under way, if its thread has one. */
static __always_inline int on_taken(struct sock *sk)
{
	__u64 key = bpf_get_current_pid_tgid();
	struct call *c = bpf_map_lookup_elem(&calls, &key);
	struct tcp_sock *tcp;
	__u32 taken;

	if (!c || c->socket != sk->__sk_common.skc_cookie.counter)
		return 0;
	tcp = bpf_skc_to_tcp_sock(sk);
	if (!tcp || tcp->inet_conn.icsk_ulp_ops)
		return 0;
	taken = tcp->copied_seq - c->copied;
	c->taken = taken && past_end(tcp, sk) ? taken - 1 : taken;
	return 0;
}

static __always_inline int on_sent(struct sock *sk, int length)
{
	__u64 key = bpf_get_current_pid_tgid() | CALL_SENDS;

	bpf_map_delete_elem(&calls, &key);
	return on_send(sk, length);
}

static __always_inline int on_received(struct sock *sk, int length, int flags)
{
	__u64 key = bpf_get_current_pid_tgid();

	bpf_map_delete_elem(&calls, &key);
	return on_receive(sk, length, flags);
}

/* A thread ends: what it began has ended before. */
static __always_inline void forget_call(__u64 direction)
{
	__u64 key = bpf_get_current_pid_tgid() | direction;
	struct call *missed = bpf_map_lookup_elem(&calls, &key);

	if (!missed)
		return;
	lost(LOSS_CALL, 0, missed->taken);
	bpf_map_delete_elem(&calls, &key);
}
