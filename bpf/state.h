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

/* One path of an MPTCP socket: the application knows, and is told of, that socket alone. */
static __always_inline int path_of_mptcp(struct sock *sk)
{
	struct tcp_sock *tcp = (struct tcp_sock *)sk;

	return sk->sk_protocol == IPPROTO_TCP && bpf_core_field_exists(tcp->is_mptcp) && BPF_CORE_READ(tcp, is_mptcp);
}

static __always_inline void begin_state(struct sock *sk, struct flow_key *key)
{
	key->family = sk->__sk_common.skc_family;
	key->peer_kind = PEER_EXACT;
	key->local_port = local_port(sk);
	key->socket = cookie_of(sk);
}

/* Whom the socket was remembered for: what happens now happens wherever the packet is processed. */
static __always_inline struct socket_state *state_owner(struct sock *sk, struct flow_key *key, struct count *c)
{
	struct socket_state *state = bpf_sk_storage_get(&sockets, sk, 0, 0);

	if (!state)
		return NULL;
	key->process = state->owner;
	c->softirq = 1;
	c->uid = state->uid;
	return state;
}

/* connect() begins, in the caller's context. on_connect comes next, unless there is no route or no port. */
static __always_inline int on_connecting(struct sock *sk)
{
	struct flow_key key = {};
	struct count c = {};
	struct socket_state *state;

	set_caller(sk, bpf_get_current_task_btf(), &key, &c);
	state = claim(sk, &key.process);
	if (state) {
		state->greeting = GREETING_EXPECTED;
		state->connecting = CONNECT_BEGUN;
	}
	return 0;
}

/* listen(), in the caller's context. */
static __always_inline int on_listening(struct sock *sk, struct control *ctl)
{
	struct count c = { .listens = 1, .direction = DIRECTION_IN, .result = RESULT_LISTENING };
	struct flow_key key = {};

	begin_state(sk, &key);
	key.peer_kind = PEER_NONE;
	set_caller(sk, bpf_get_current_task_btf(), &key, &c);
	claim(sk, &key.process);
	return count_state(sk, ctl, &key, &c);
}

/* What came of a connect. */
static __always_inline int on_connected(struct sock *sk, struct control *ctl, int new)
{
	struct count c = { .direction = DIRECTION_OUT };
	struct flow_key key = {};
	struct socket_state *state = state_owner(sk, &key, &c);

	if (!state)
		return 0;
	begin_state(sk, &key);
	internet_peer(sk, &key);
	c.connects = state->connecting == CONNECT_BEGUN;
	state->connecting = CONNECT_NONE;
	if (new == TCP_ESTABLISHED) {
		state->direction = DIRECTION_OUT;
		if (sk->sk_protocol == IPPROTO_TCP)
			follow(state, sk);
		c.result = RESULT_OPEN;
	} else {
		c.failures = 1;
		c.result = connect_result(sk);
	}
	return count_state(sk, ctl, &key, &c);
}

/* A connection to a listening socket, whose state the new one inherits. */
static __always_inline int on_accepted(struct sock *sk, struct control *ctl)
{
	struct count c = { .accepts = 1, .direction = DIRECTION_IN, .result = RESULT_OPEN, .flags = FLOW_LISTENER };
	struct flow_key key = {};
	struct socket_state *state = state_owner(sk, &key, &c);

	if (!state)
		return 0;
	begin_state(sk, &key);
	internet_peer(sk, &key);
	state->connecting = CONNECT_NONE;
	state->direction = DIRECTION_IN;
	follow(state, sk);
	return count_state(sk, ctl, &key, &c);
}

/*
 * SCTP tells of a one-to-one socket only when its association is open: of a connect, wherever the packet is processed, or
 * in accept(), where the new socket has no file yet.
 */
static __always_inline int on_association(struct sock *sk, struct control *ctl)
{
	struct count c = { .result = RESULT_OPEN };
	struct flow_key key = {};

	if (sk->sk_type != SOCK_STREAM)
		return 0;
	begin_state(sk, &key);
	internet_peer(sk, &key);
	if (sk->sk_socket) {
		if (!state_owner(sk, &key, &c))
			return 0;
		c.connects = 1;
		c.direction = DIRECTION_OUT;
	} else {
		process_of(bpf_get_current_task_btf(), &key.process);
		c.accepts = 1;
		c.direction = DIRECTION_IN;
	}
	return count_state(sk, ctl, &key, &c);
}

/*
 * The paths of MPTCP sockets are no rows of their own. But a connection that is accepted has its addresses in its first
 * path only, while its own socket is being made.
 */
static __always_inline int on_path(struct sock *sk, struct control *ctl, int old, int new)
{
	struct count c = { .accepts = 1, .direction = DIRECTION_IN, .result = RESULT_OPEN, .flags = FLOW_LISTENER,
			   .protocol = IPPROTO_MPTCP };
	struct mptcp_subflow_context *path = BPF_CORE_READ((struct tcp_sock *)sk, inet_conn.icsk_ulp_data);
	struct flow_key key = {};
	struct sock *whole;

	if (new == TCP_LISTEN) {
		process_of(bpf_get_current_task_btf(), &key.process);
		claim(sk, &key.process);
		return 0;
	}
	if (old != TCP_SYN_RECV || new != TCP_ESTABLISHED || !path || BPF_CORE_READ_BITFIELD_PROBED(path, mp_join))
		return 0;
	if (!state_owner(sk, &key, &c))
		return 0;
	whole = BPF_CORE_READ(path, conn);
	key.family = sk->__sk_common.skc_family;
	key.peer_kind = PEER_EXACT;
	key.local_port = local_port(sk);
	key.socket = BPF_CORE_READ(whole, __sk_common.skc_cookie.counter); /* on_state has seen to it that there is one */
	internet_peer(sk, &key);
	return count_state(sk, ctl, &key, &c);
}

static __always_inline int on_state(struct sock *sk, int old, int new)
{
	struct control *ctl = active();

	if (!ctl || !internet(sk->__sk_common.skc_family))
		return 0;
	if (path_of_mptcp(sk))
		return on_path(sk, ctl, old, new);
	if (new == TCP_LISTEN)
		return old == TCP_LISTEN ? 0 : on_listening(sk, ctl);
	if (new == TCP_SYN_SENT)
		return on_connecting(sk);
	if (sk->sk_protocol == IPPROTO_SCTP)
		return new == TCP_ESTABLISHED ? on_association(sk, ctl) : 0;
	if (old == TCP_SYN_SENT)
		return on_connected(sk, ctl, new);
	if (sk->sk_protocol == IPPROTO_MPTCP)
		cookie_of(sk); /* from now on it has one, for on_path */
	if (old == TCP_SYN_RECV && new == TCP_ESTABLISHED)
		return on_accepted(sk, ctl);
	return 0;
}

/* An SCTP socket is made: nothing else tells, once its association opens, whose it is. */
static __always_inline int on_create(struct bpf_sock *sk)
{
	struct socket_state *state;

	if (!active())
		return 1;
	bpf_get_socket_cookie(sk); /* from now on it has one, for programs that may not ask */
	if (sk->protocol != IPPROTO_SCTP)
		return 1;
	state = bpf_sk_storage_get(&sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!state) {
		lost(LOSS_SOCKET_STORAGE, 0, 0);
		return 1;
	}
	process_of(bpf_get_current_task_btf(), &state->owner);
	state->uid = bpf_get_current_uid_gid();
	return 1;
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
	key.local_port = local_port(sk);
	key.socket = bpf_get_socket_cookie(ctx);
	key.process = state->owner;
	if (kernel_owned(sk))
		c.flags = FLOW_KERNEL;
	internet_peer(sk, &key);
	state->connecting = CONNECT_COUNTED;
	count_state(sk, ctl, &key, &c);
	return 1;
}
