/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/*
 * Ways onto the network whose bytes no call returns: rings that a process shares with the kernel, and TUN devices. What
 * they move cannot be counted here; that they are used is told, with the process.
 */
#pragma once

#include "process.h"

#define SOL_PACKET 263
#define PACKET_RX_RING 5
#define SOL_XDP 283
#define XDP_RX_RING 1
#define XDP_TX_RING 2
#define OPTION_PAGE 4096
#define TUN_MAJOR 10
#define TUN_MINOR 200
#define TUN_DEVICE (TUN_MAJOR << 20 | TUN_MINOR) /* as the kernel writes it */

static __always_inline void uncounted(struct task_struct *task, __u32 way)
{
	struct process_key key = {};
	struct event *e;

	process_of(task, &key);
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		lost(LOSS_EVENT_FULL, 0, 0);
		return;
	}
	e->process = key;
	e->before = key;
	e->time = bpf_ktime_get_boot_ns();
	e->kind = EVENT_UNCOUNTED;
	e->pad = way;
	bpf_ringbuf_submit(e, wakeup(EVENT_UNCOUNTED));
}

static __always_inline int on_option(struct bpf_sockopt *ctx)
{
	/* Options longer than a page reach the kernel only if they are said to be left alone. */
	if (ctx->optlen > OPTION_PAGE)
		ctx->optlen = 0;
	if (!active())
		return 1;
	if (ctx->level == SOL_XDP && (ctx->optname == XDP_RX_RING || ctx->optname == XDP_TX_RING))
		uncounted(bpf_get_current_task_btf(), UNCOUNTED_XDP);
	else if (ctx->level == SOL_PACKET && ctx->optname == PACKET_RX_RING)
		uncounted(bpf_get_current_task_btf(), UNCOUNTED_RX_RING);
	return 1;
}

#define IORING_REGISTER_ZCRX_IFQ 32

/* io_uring's zero-copy receive: the network card writes into memory that the process shares with the kernel. */
static __always_inline int on_register(unsigned int operation)
{
	if (operation == IORING_REGISTER_ZCRX_IFQ && active())
		uncounted(bpf_get_current_task_btf(), UNCOUNTED_RECEIVE_ZC);
	return 0;
}

/* Somebody opens a device. It is always allowed. */
static __always_inline int on_device(struct bpf_cgroup_dev_ctx *ctx)
{
	if (ctx->major == TUN_MAJOR && ctx->minor == TUN_MINOR && active())
		uncounted(bpf_get_current_task_btf(), UNCOUNTED_TUN);
	return 1;
}

/*
 * A packet leaves that was written to a tap of a device (macvtap, ipvtap), as virtual machines do: it belongs to a socket of no
 * family. Which device file that was cannot be told when it is opened, since its number is given out anew at each boot.
 */
static __always_inline int on_tap(struct sock *sk)
{
	struct socket_state *state;

	if (!active())
		return 0;
	state = bpf_sk_storage_get(&sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!state || state->following)
		return 0;
	state->following = 1; /* told once */
	uncounted(bpf_get_current_task_btf(), UNCOUNTED_TAP);
	return 0;
}

/* A file that was open before there were probes. */
static __always_inline int on_open_file(struct task_struct *task, struct file *file)
{
	struct packet_sock *packet;
	struct socket *socket;
	struct sock *sk;

	if (!active() || !task || !file)
		return 0;
	if (BPF_CORE_READ(file, f_inode, i_rdev) == TUN_DEVICE)
		uncounted(task, UNCOUNTED_TUN);
	socket = bpf_sock_from_file(file);
	sk = socket ? socket->sk : NULL;
	if (!sk)
		return 0;
	packet = (struct packet_sock *)sk;
	if (sk->__sk_common.skc_family == AF_XDP)
		uncounted(task, UNCOUNTED_XDP);
	else if (sk->__sk_common.skc_family == AF_PACKET && BPF_CORE_READ(packet, rx_ring.pg_vec))
		uncounted(task, UNCOUNTED_RX_RING);
	return 0;
}
