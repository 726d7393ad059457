/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/*
 * Bytes that leave a TCP socket without a receive call: splice, sendfile from a socket, TCP_ZEROCOPY_RECEIVE. They, and
 * receive calls too, advance tcp_sock.copied_seq and then pass the tracepoint tcp_rcv_space_adjust in the reader's
 * context. Which of the two it was, the system call tells; a receive call is counted where it returns.
 */
#pragma once

#include "transfer.h"

/* The number of the system call under way, -1 where there is none. */
static __always_inline long system_call(struct task_struct *task)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);
	struct pt_regs___arm64 *arm = (void *)regs;

	if (bpf_core_field_exists(regs->orig_ax))
		return BPF_CORE_READ(regs, orig_ax);
	if (bpf_core_field_exists(arm->syscallno))
		return BPF_CORE_READ(arm, syscallno);
	return -1;
}

/* Whether this call takes bytes out of a socket without receiving: splice, sendfile, getsockopt, of any ABI. */
static __always_inline int takes_mapped(long call)
{
	struct pt_regs *regs = NULL;

	if (bpf_core_field_exists(regs->orig_ax)) {
		switch (call) {
		case 40: case 55: case 275:   /* x86-64: sendfile, getsockopt, splice */
		case 187: case 239: case 313: case 365: /* i386: sendfile, sendfile64, splice, getsockopt */
			return 1;
		}
		return 0;
	}
	return call == 71 || call == 76 || call == 209; /* arm64: sendfile, splice, getsockopt */
}

/* How far the reader has come since the last look, without the FIN, which no call returned. */
static __always_inline __u32 advance(struct socket_state *state, struct tcp_sock *tcp, struct sock *sk)
{
	__u32 copied = BPF_CORE_READ(tcp, copied_seq);
	__u32 step = copied - state->copied;

	state->copied = copied;
	if (!state->following) {
		state->following = 1;
		return 0;
	}
	if (step && !state->finished && (sk->__sk_common.skc_flags & SOCK_DONE_BIT) && copied == BPF_CORE_READ(tcp, rcv_nxt)) {
		state->finished = 1;
		step--;
	}
	return step;
}

static __always_inline int on_space(struct sock *sk)
{
	struct control *ctl = active();
	struct tcp_sock *tcp = (struct tcp_sock *)sk;
	struct flow_key key = {};
	struct count c = { .receives = 1 };
	struct socket_state *state;

	if (!ctl)
		return 0;
	state = bpf_sk_storage_get(&sockets, sk, 0, 0);
	if (!state)
		return 0;
	c.received = advance(state, tcp, sk);
	if (!c.received || !takes_mapped(system_call(bpf_get_current_task_btf())) || BPF_CORE_READ(tcp, inet_conn.icsk_ulp_ops))
		return 0;
	begin_key(sk, &key, &c);
	internet_peer(sk, &key);
	count_flow(sk, ctl, &key, &c);
	return 0;
}
