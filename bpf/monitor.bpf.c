// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/* The list of hooks: one call each. docs/architecture.md tells how they play together. */
#include "kernel.h"
#include "event.h"
#include "control.h"
#include "kind.h"
#include "socket.h"
#include "address.h"
#include "flow.h"
#include "transfer.h"
#include "mapped.h"
#include "call.h"
#include "state.h"
#include "process.h"
#include "exec.h"
#include "name.h"
#include "resolve.h"
#include "uncounted.h"
#include "tunnel.h"
#include "existing.h"
#include "kprobe.h"

char _license[] SEC("license") = "Dual BSD/GPL";

/* Sends and receives of every kind of call end here, in the caller's context. */
SEC("tp_btf/sock_send_length")
int BPF_PROG(sock_send, struct sock *sk, int length, int flags)
{
	return on_send(sk, length);
}

SEC("tp_btf/sock_recv_length")
int BPF_PROG(sock_receive, struct sock *sk, int length, int flags)
{
	return on_receive(sk, length, flags);
}

/* Bytes that leave a TCP socket in other ways. */
SEC("tp_btf/tcp_rcv_space_adjust")
int BPF_PROG(tcp_space, struct sock *sk)
{
	return on_space(sk, 0);
}

/* The same beside the one below, which sees what is spliced out of encrypted sockets. Never both. */
SEC("tp_btf/tcp_rcv_space_adjust")
int BPF_PROG(tcp_space_beside, struct sock *sk)
{
	return on_space(sk, 1);
}

SEC("fexit/sock_splice_read")
int BPF_PROG(splice_read, struct file *file, void *position, void *pipe, __u64 size, unsigned int flags, long length)
{
	return on_splice(file, length);
}

/* Packets that are copied to a reader. */
SEC("tp_btf/skb_copy_datagram_iovec")
int BPF_PROG(packet_copy, const struct sk_buff *skb, int length)
{
	return on_copy(skb);
}

/*
 * The same on kernels before 6.3, which lack those tracepoints: where the calls of the families that matter end. Never
 * loaded together with them.
 */
SEC("fexit/inet_sendmsg")
int BPF_PROG(inet_send, struct socket *socket, struct msghdr *message, __u64 size, int length)
{
	return on_sent(socket->sk, length);
}

SEC("fexit/inet6_sendmsg")
int BPF_PROG(inet6_send, struct socket *socket, struct msghdr *message, __u64 size, int length)
{
	return on_sent(socket->sk, length);
}

SEC("fexit/inet_sendpage")
int BPF_PROG(inet_sendpage, struct socket *socket, struct page *page, int offset, __u64 size, int flags, long length)
{
	return takes_pages(socket->sk->sk_protocol) ? on_send(socket->sk, length) : 0;
}

SEC("fexit/packet_sendmsg")
int BPF_PROG(packet_send, struct socket *socket, struct msghdr *message, __u64 size, int length)
{
	return on_sent(socket->sk, length);
}

SEC("fexit/inet_recvmsg")
int BPF_PROG(inet_receive, struct socket *socket, struct msghdr *message, __u64 size, int flags, int length)
{
	return on_received(socket->sk, length, flags);
}

SEC("fexit/inet6_recvmsg")
int BPF_PROG(inet6_receive, struct socket *socket, struct msghdr *message, __u64 size, int flags, int length)
{
	return on_received(socket->sk, length, flags);
}

/* Raw and ICMP sockets of IPv6. */
SEC("fexit/sock_common_recvmsg")
int BPF_PROG(common_receive, struct socket *socket, struct msghdr *message, __u64 size, int flags, int length)
{
	return internet(socket->sk->__sk_common.skc_family) ? on_received(socket->sk, length, flags) : 0;
}

SEC("fexit/packet_recvmsg")
int BPF_PROG(packet_receive, struct socket *socket, struct msghdr *message, __u64 size, int flags, int length)
{
	return on_received(socket->sk, length, flags);
}

/* Where those calls begin: the kernel leaves out the end of one that waits while such programs come and go. */
SEC("fentry/inet_sendmsg")
int BPF_PROG(inet_send_begin, struct socket *socket)
{
	return on_begin(socket->sk, CALL_SENDS);
}

SEC("fentry/inet6_sendmsg")
int BPF_PROG(inet6_send_begin, struct socket *socket)
{
	return on_begin(socket->sk, CALL_SENDS);
}

SEC("fentry/packet_sendmsg")
int BPF_PROG(packet_send_begin, struct socket *socket)
{
	return on_begin(socket->sk, CALL_SENDS);
}

SEC("fentry/inet_recvmsg")
int BPF_PROG(inet_receive_begin, struct socket *socket)
{
	return on_begin(socket->sk, 0);
}

SEC("fentry/inet6_recvmsg")
int BPF_PROG(inet6_receive_begin, struct socket *socket)
{
	return on_begin(socket->sk, 0);
}

SEC("fentry/sock_common_recvmsg")
int BPF_PROG(common_receive_begin, struct socket *socket)
{
	return internet(socket->sk->__sk_common.skc_family) ? on_begin(socket->sk, 0) : 0;
}

SEC("fentry/packet_recvmsg")
int BPF_PROG(packet_receive_begin, struct socket *socket)
{
	return on_begin(socket->sk, 0);
}

/* What a receive has taken by then. */
SEC("tp_btf/tcp_rcv_space_adjust")
int BPF_PROG(tcp_taken, struct sock *sk)
{
	return on_taken(sk);
}

/* In a module: attached if it was there when the host started. */
SEC("fexit/vsock_connectible_sendmsg")
int BPF_PROG(vsock_send, struct socket *socket, struct msghdr *message, __u64 size, int length)
{
	return on_other(socket->sk, length, 0, 1);
}

SEC("fexit/vsock_dgram_sendmsg")
int BPF_PROG(vsock_send_datagram, struct socket *socket, struct msghdr *message, __u64 size, int length)
{
	return on_other(socket->sk, length, 0, 1);
}

SEC("fexit/vsock_connectible_recvmsg")
int BPF_PROG(vsock_receive, struct socket *socket, struct msghdr *message, __u64 size, int flags, int length)
{
	return on_other(socket->sk, length, flags, 0);
}

SEC("fexit/vsock_dgram_recvmsg")
int BPF_PROG(vsock_receive_datagram, struct socket *socket, struct msghdr *message, __u64 size, int flags, int length)
{
	return on_other(socket->sk, length, flags, 0);
}

/* Families without a function of their own above: Bluetooth, CAN and whatever else there is. */
SEC("fexit/sock_sendmsg")
int BPF_PROG(other_send, struct socket *socket, struct msghdr *message, int length)
{
	return other_family(socket->sk) ? on_other(socket->sk, length, 0, 1) : 0;
}

SEC("fexit/sock_recvmsg")
int BPF_PROG(other_receive, struct socket *socket, struct msghdr *message, int flags, int length)
{
	return other_family(socket->sk) ? on_other(socket->sk, length, flags, 0) : 0;
}

/* The same where neither can be had, of IP sockets: where their calls begin and where they end. */
SEC("kprobe/inet_sendmsg")
int inet_send_in(void *registers)
{
	return on_named_send(registers);
}

SEC("kretprobe/inet_sendmsg")
int inet_send_out(void *registers)
{
	return on_called(registers, CALL_SENDS);
}

SEC("kprobe/inet6_sendmsg")
int inet6_send_in(void *registers)
{
	return on_named_send(registers);
}

SEC("kretprobe/inet6_sendmsg")
int inet6_send_out(void *registers)
{
	return on_called(registers, CALL_SENDS);
}

SEC("kprobe/inet_sendpage")
int sendpage_in(void *registers)
{
	return on_page_call(registers);
}

SEC("kretprobe/inet_sendpage")
int sendpage_out(void *registers)
{
	return on_called(registers, CALL_SENDS);
}

SEC("kprobe/inet_recvmsg")
int inet_recv_in(void *registers)
{
	return on_call(registers, 0);
}

SEC("kretprobe/inet_recvmsg")
int inet_recv_out(void *registers)
{
	return on_called(registers, 0);
}

SEC("kprobe/inet6_recvmsg")
int inet6_recv_in(void *registers)
{
	return on_call(registers, 0);
}

SEC("kretprobe/inet6_recvmsg")
int inet6_recv_out(void *registers)
{
	return on_called(registers, 0);
}

SEC("kprobe/sock_common_recvmsg")
int common_recv_in(void *registers)
{
	return on_call(registers, 0);
}

SEC("kretprobe/sock_common_recvmsg")
int common_recv_out(void *registers)
{
	return on_called(registers, 0);
}

SEC("kprobe/skb_consume_udp")
int udp_consumed(void *registers)
{
	return on_consumed(registers);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(sock_state, struct sock *sk, int old, int new)
{
	return on_state(sk, old, new);
}

SEC("cgroup/sock_create")
int socket_create(struct bpf_sock *sk)
{
	return on_create(sk);
}

SEC("sockops")
int tcp_event(struct bpf_sock_ops *ctx)
{
	return ctx->op == BPF_SOCK_OPS_TCP_CONNECT_CB ? on_connect(ctx) : 1;
}

/* Addresses that calls on sockets without a peer name. */
SEC("cgroup/sendmsg4")
int send_to_v4(struct bpf_sock_addr *ctx)
{
	return on_address(ctx, 0, 1);
}

SEC("cgroup/sendmsg6")
int send_to_v6(struct bpf_sock_addr *ctx)
{
	return on_address(ctx, 1, 1);
}

SEC("cgroup/recvmsg4")
int receive_v4(struct bpf_sock_addr *ctx)
{
	return on_address(ctx, 0, 0);
}

SEC("cgroup/recvmsg6")
int receive_v6(struct bpf_sock_addr *ctx)
{
	return on_address(ctx, 1, 0);
}

/* Packets that arrive: datagrams whose reader may not ask where they come from, and answers of name servers. */
SEC("cgroup_skb/ingress")
int arrive(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	__u16 port;

	if (!sk || (sk->dst_port && sk->dst_port != bpf_htons(PORT_DNS)))
		return 1; /* it has a peer, which is no name server */
	port = bpf_ntohs(sk->dst_port);
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return 1;
	if (sk->state != TCP_ESTABLISHED && udp_kind(sk->type, sk->protocol))
		port = on_delivery(skb, sk);
	if (port == PORT_DNS)
		on_answer(skb, sk);
	return 1;
}

#define PROTOCOLS 512 /* a raw socket has its protocol, which is less, where others have their port */

/*
 * Packets that leave: those of raw and ICMP sockets, questions to name servers, and the first bytes of TLS and QUIC. Of almost
 * every packet it can be told without a helper that its socket is not raw.
 */
SEC("cgroup_skb/egress")
int depart(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk, *full;
	__u32 transport;
	__u8 protocol = 0;
	__u16 port;

	if (!sk)
		return 1;
	transport = transport_of(skb, &protocol);
	if (sk->src_port < PROTOCOLS || (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP)) {
		full = bpf_sk_fullsock(sk);
		if (!full)
			return 1;
		if (bare(full->type, full->protocol)) {
			on_departure(skb, full);
			return 1;
		}
	}
	if (protocol == IPPROTO_TCP) {
		on_greeting(skb, sk, transport);
	} else if (protocol == IPPROTO_UDP) {
		port = port_at(skb, transport + 2);
		if (port == PORT_DNS)
			on_ask(sk);
		else if (port == PORT_QUIC)
			on_quic(skb, transport);
	}
	return 1;
}

/* Packets of tunnels, as they leave. */
SEC("tp_btf/net_dev_queue")
int BPF_PROG(packet_queue, struct sk_buff *skb)
{
	return on_queue(skb);
}

/* The C library's own answers. */
SEC("uprobe/getaddrinfo")
int ask(void *registers)
{
	return on_question(registers);
}

SEC("uretprobe/getaddrinfo")
int told(void *registers)
{
	return on_result(registers);
}

/* Lives of processes. */
SEC("tp_btf/sched_process_exec")
int BPF_PROG(process_exec, struct task_struct *task, int old_pid, struct linux_binprm *binprm)
{
	return on_exec(task, binprm);
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(process_fork, struct task_struct *parent, struct task_struct *child)
{
	return on_fork(parent, child);
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(process_exit, struct task_struct *task)
{
	forget_call(0);
	forget_call(CALL_SENDS);
	return on_exit(task);
}

/* Ways whose bytes no call returns. */
SEC("cgroup/setsockopt")
int set_option(struct bpf_sockopt *ctx)
{
	return on_option(ctx);
}

SEC("tp_btf/io_uring_register")
int BPF_PROG(ring_register, void *ring, unsigned int operation)
{
	return on_register(operation);
}

SEC("cgroup/dev")
int open_device(struct bpf_cgroup_dev_ctx *ctx)
{
	return on_device(ctx);
}

SEC("iter/task_file")
int open_files(struct bpf_iter__task_file *ctx)
{
	return on_open_file(ctx->task, ctx->file);
}

/* What was there before. */
SEC("iter.s/task")
int existing_tasks(struct bpf_iter__task *ctx)
{
	return on_existing_task(ctx->task);
}

SEC("iter/task_file")
int existing_files(struct bpf_iter__task_file *ctx)
{
	return on_existing_file(ctx->task, ctx->file);
}

/* The host's own open files. */
SEC("iter/task_file")
int file_keys(struct bpf_iter__task_file *ctx)
{
	return on_file_key(ctx->meta->seq, ctx->task, ctx->file, ctx->fd);
}

/* Costs nothing but the call: what `make bench` subtracts. Never attached by the daemon. */
SEC("tp_btf/sock_send_length")
int BPF_PROG(nothing, struct sock *sk, int length, int flags)
{
	return 0;
}
