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
		return regs->orig_ax;
	if (bpf_core_field_exists(arm->syscallno))
		return arm->syscallno;
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

#define PF_IO_WORKER 0x10
#define IORING_OP_SPLICE 30

/* Whether what runs takes bytes without receiving. A worker of io_uring runs no system call: its request tells. */
static __always_inline int takes_mapped_now(struct task_struct *task)
{
	struct io_worker *worker;
	struct io_kiocb *request;
	struct io_wq_work *work;

	if (!(task->flags & PF_IO_WORKER))
		return takes_mapped(system_call(task));
	worker = BPF_CORE_READ(task, worker_private);
	work = BPF_CORE_READ(worker, cur_work);
	if (!work)
		return 0;
	request = (void *)work - bpf_core_field_offset(struct io_kiocb, work);
	return BPF_CORE_READ(request, opcode) == IORING_OP_SPLICE;
}

/* Whether the reader has come past the FIN, which takes a number but is no byte. */
static __always_inline int past_end(struct tcp_sock *tcp, struct sock *sk)
{
	return (sk->__sk_common.skc_flags & SOCK_DONE_BIT) && tcp->copied_seq == tcp->rcv_nxt;
}

/* How far the reader has come since the last look, without the FIN, which no call returned. */
static __always_inline __u32 advance(struct socket_state *state, struct tcp_sock *tcp, struct sock *sk)
{
	__u32 copied = tcp->copied_seq;
	__u32 step = copied - state->copied;

	state->copied = copied;
	if (!state->following) {
		state->following = 1;
		return 0;
	}
	if (step && !state->finished && past_end(tcp, sk)) {
		state->finished = 1;
		step--;
	}
	return step;
}

/*
 * splice() out of a socket has ended, on kernels that tell. Of a socket whose protocol is not plain TCP (kernel TLS) this is
 * the only place where the bytes that the process got are known.
 */
static __always_inline int on_splice(struct file *file, long length)
{
	struct control *ctl = active();
	struct flow_key key = {};
	struct count c = { .receives = 1 };
	struct socket *socket;
	struct tcp_sock *tcp;
	struct sock *sk;

	if (!ctl || length <= 0)
		return 0;
	socket = bpf_sock_from_file(file);
	sk = socket ? socket->sk : NULL;
	if (!sk || !internet(sk->__sk_common.skc_family) || sk->sk_protocol != IPPROTO_TCP)
		return 0;
	tcp = (struct tcp_sock *)sk;
	if (!BPF_CORE_READ(tcp, inet_conn.icsk_ulp_ops))
		return 0;
	c.received = length;
	begin_key(sk, &key);
	internet_peer(sk, &key);
	set_caller(sk, bpf_get_current_task_btf(), &key, &c);
	count_flow(sk, ctl, &key, &c);
	return 0;
}

/* splices_seen: on_splice is at work too. */
static __always_inline int on_space(struct sock *sk, int splices_seen)
{
	struct control *ctl = active();
	struct flow_key key = {};
	struct count c = { .receives = 1 };
	struct socket_state *state;
	struct tcp_sock *tcp;
	struct flow *f;
	int followed;

	if (!ctl)
		return 0;
	tcp = bpf_skc_to_tcp_sock(sk);
	if (!tcp)
		return 0;
	/* One that nobody held when the probes came (it waited to be accepted, or in a message) is followed from here on. */
	state = bpf_sk_storage_get(&sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!state) {
		lost(LOSS_SOCKET_STORAGE, 0, 0);
		return 0;
	}
	followed = state->following;
	c.received = advance(state, tcp, sk);
	if ((followed && !c.received) || !takes_mapped_now(bpf_get_current_task_btf()))
		return 0;
	if (!followed) {
		lost(LOSS_CALL, 0, 0);
		return 0;
	}
	if (tcp->inet_conn.icsk_ulp_ops) {
		if (splices_seen)
			return 0;
		c.flags = FLOW_ESTIMATE; /* what was taken is text in clear; this is what it was encrypted */
	}
	begin_key(sk, &key);
	internet_peer(sk, &key);
	set_caller(sk, bpf_get_current_task_btf(), &key, &c);
	count_flow(sk, ctl, &key, &c);
	if (!c.flags)
		return 0;
	f = flow_of(ctl, &key);
	if (f)
		f->flags |= c.flags;
	return 0;
}
