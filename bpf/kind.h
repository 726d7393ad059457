/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/* What kind of socket it is. */
#pragma once

#include "control.h"

static __always_inline int internet(__u16 family)
{
	return family == AF_INET || family == AF_INET6;
}

/* Every family counts but those that stay inside the machine or talk to the kernel: none can hide by being unknown. */
static __always_inline int counted_family(__u16 family)
{
	return family && family != AF_UNIX && family != AF_NETLINK && family != AF_KEY && family != AF_ALG;
}

/* A family whose calls end in no function that is known here, on kernels without tracepoints for all of them. */
static __always_inline int other_family(struct sock *sk)
{
	__u16 family = sk->__sk_common.skc_family;

	return !internet(family) && family != AF_PACKET && family != AF_VSOCK;
}

/* Sockets whose calls may each name another peer. Raw ones of the same protocol have no ports. */
static __always_inline int udp_kind(__u16 type, __u16 protocol)
{
	return type == SOCK_DGRAM && (protocol == IPPROTO_UDP || protocol == IPPROTO_UDPLITE);
}

static __always_inline int udp(struct sock *sk)
{
	return udp_kind(sk->sk_type, sk->sk_protocol);
}

/* Likewise, but without a hook that names it: the packet itself tells. SCTP: one socket for many associations. */
static __always_inline int bare(__u16 type, __u16 protocol)
{
	return type == SOCK_RAW || protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6 ||
	       (protocol == IPPROTO_SCTP && type == SOCK_SEQPACKET);
}

static __always_inline int datagram(struct sock *sk)
{
	return internet(sk->__sk_common.skc_family) && (udp(sk) || bare(sk->sk_type, sk->sk_protocol));
}

/* Sockets that take pages as such. Those of others are sent by a call of its own, which is counted. */
static __always_inline int takes_pages(__u16 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_UDPLITE;
}

static __always_inline __u64 cookie_of(struct sock *sk)
{
	__u64 cookie = sk->__sk_common.skc_cookie.counter;

	return cookie ? cookie : bpf_get_socket_cookie(sk);
}

/* 1 unless it is 0, without a branch: each doubles what the verifier has to walk. */
static __always_inline __u64 nonzero(__u64 value)
{
	return (value | -value) >> 63;
}

/*
 * A socket without a file is the kernel's own, whoever happens to be current. Some of the kernel's have one (sunrpc's):
 * they were made by the kernel and belong to something. One that a process accepts of an MPTCP listener was only made so.
 */
static __always_inline __u64 kernel_owned(struct sock *sk)
{
	struct socket *socket = sk->sk_socket;

	if (!socket)
		return 0;
	return (nonzero((__u64)socket->file) ^ 1) |
	       (BPF_CORE_READ_BITFIELD(sk, sk_kern_sock) & nonzero((__u64)sk->sk_user_data));
}
