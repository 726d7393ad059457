/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/* Connects, accepts and listens: uses of the network that may carry no byte. */
#pragma once

#include "flow.h"

/* From here on the bytes that are read from a TCP socket can be told from how far its reader has come. */
static __always_inline void follow(struct socket_state *state, struct sock *sk)
{
	struct tcp_sock *tcp = (struct tcp_sock *)sk;

	state->copied = BPF_CORE_READ(tcp, copied_seq);
	state->following = 1;
	state->finished = 0;
	state->first_received = state->copied;
}

/* Counts a state change on the socket's flow, made if missing. */
static __noinline int count_state(struct sock *sk, struct control *ctl, const struct flow_key *key, const struct count *c)
{
	struct flow *f = flow_of(ctl, key);

	if (f)
		add_state(f, sk, c);
	else
		first_count(sk, ctl, key, c);
	return 0;
}

static __always_inline __u8 connect_result(struct sock *sk)
{
	switch (sk->sk_err) {
	case 0:
		return RESULT_ABANDONED;
	case ECONNREFUSED:
		return RESULT_REFUSED;
	case ETIMEDOUT:
		return RESULT_TIMED_OUT;
	}
	return RESULT_FAILED;
}

/*
 * connect() and listen() run in the caller's context; what comes of a connect, and an accept, happen wherever the packet
 * is processed, and belong to the process that was remembered.
 */
static __always_inline int on_state(struct sock *sk, int old, int new)
{
	struct control *ctl = active();
	struct flow_key key = {};
	struct count c = {};
	struct socket_state *state;

	if (!ctl || !internet(sk->__sk_common.skc_family))
		return 0;
	if (new != TCP_SYN_SENT && new != TCP_LISTEN && old != TCP_SYN_SENT && !(old == TCP_SYN_RECV && new == TCP_ESTABLISHED))
		return 0;
	key.family = sk->__sk_common.skc_family;
	key.peer_kind = PEER_EXACT;
	key.socket = cookie_of(sk);
	if (new == TCP_SYN_SENT || new == TCP_LISTEN) {
		if (kernel_owned(sk))
			c.flags = FLOW_KERNEL;
		else
			process_of(bpf_get_current_task_btf(), &key.process);
		state = claim(sk, &key.process);
		if (state && new == TCP_SYN_SENT) {
			state->greeting = GREETING_EXPECTED;
			state->connecting = CONNECT_BEGUN;
			return 0; /* on_connect comes next, unless there is no route or no port */
		}
	} else {
		state = bpf_sk_storage_get(&sockets, sk, 0, 0);
		if (!state)
			return 0;
		if (new == TCP_ESTABLISHED)
			follow(state, sk);
		key.process = state->owner;
		c.softirq = 1;
		c.uid = state->uid;
		if (state->connecting == CONNECT_BEGUN)
			c.connects = 1;
		state->connecting = CONNECT_NONE;
	}
	c.direction = DIRECTION_OUT;
	if (new == TCP_LISTEN)
		key.peer_kind = PEER_NONE;
	else
		internet_peer(sk, &key);
	if (new == TCP_LISTEN) {
		c.listens = 1;
		c.direction = DIRECTION_IN;
		c.result = RESULT_LISTENING;
	} else if (new == TCP_SYN_SENT) {
		c.connects = 1;
		c.result = RESULT_PENDING;
	} else if (new == TCP_ESTABLISHED && old == TCP_SYN_SENT) {
		c.result = RESULT_OPEN;
	} else if (new == TCP_ESTABLISHED) {
		c.accepts = 1;
		c.direction = DIRECTION_IN;
		c.result = RESULT_OPEN;
		c.flags = FLOW_LISTENER;
	} else {
		c.failures = 1;
		c.result = connect_result(sk);
	}
	return count_state(sk, ctl, &key, &c);
}

/*
 * The SYN is about to leave, in the context of connect(): the local port is known now. A connect is counted here and not
 * where it begins, so that one that is cut by the end of a window is one row with its port.
 */
static __always_inline int on_connect(struct bpf_sock_ops *ctx)
{
	struct control *ctl = active();
	struct bpf_sock *given = ctx->sk;
	struct count c = { .connects = 1, .direction = DIRECTION_OUT, .result = RESULT_PENDING };
	struct flow_key key = {};
	struct socket_state *state;
	struct tcp_sock *tcp;
	struct sock *sk;

	if (!ctl || !given)
		return 1;
	state = bpf_sk_storage_get(&sockets, given, 0, 0);
	tcp = bpf_skc_to_tcp_sock(given);
	if (!state || state->connecting != CONNECT_BEGUN || !tcp)
		return 1;
	sk = (struct sock *)tcp;
	key.family = sk->__sk_common.skc_family;
	key.peer_kind = PEER_EXACT;
	key.socket = bpf_get_socket_cookie(ctx);
	key.process = state->owner;
	if (kernel_owned(sk))
		c.flags = FLOW_KERNEL;
	internet_peer(sk, &key);
	state->connecting = CONNECT_COUNTED;
	count_state(sk, ctl, &key, &c);
	return 1;
}
