/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/*
 * Packets in which the kernel carries other packets: VXLAN, WireGuard, GRE and the like. What they carry was counted at the
 * sockets that it comes from; these copies are rows of a layer of their own and in no sum. They pass no socket call, so
 * they are counted, as they are queued on a device, in bytes on the wire.
 */
#pragma once

#include "address.h"
#include "flow.h"

#define TUNNEL_SOCKET (1ULL << 63) /* with the device's index, where a socket has its cookie */
#define FRAGMENT_OFFSET 0x1fff
#define IPPROTO_IPIP 4
#define IPPROTO_IPV6 41
#define IPPROTO_GRE 47
#define IPPROTO_ESP 50

struct outer {
	struct flow_key key;
	struct flow flow;
};

/* The port that a TCP or UDP packet comes from; 0 if it cannot be read. */
static __always_inline __u16 source_port(const struct sk_buff *skb)
{
	struct udphdr *header = (struct udphdr *)(skb->head + skb->transport_header); /* a TCP header begins alike */

	if (can_follow())
		return bpf_ntohs(follow_as(struct udphdr, header)->source);
	return bpf_ntohs(BPF_CORE_READ(header, source));
}

/* WireGuard and IPsec leave a packet with the socket that sent what is in it. The port is not that socket's. */
static __always_inline int wrapped(const struct sk_buff *skb, const struct sock *sk)
{
	__u16 type = sk->sk_type, protocol = sk->sk_protocol, own = sk->__sk_common.skc_num;

	if ((type != SOCK_STREAM && type != SOCK_DGRAM) || (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP))
		return 0;
	return own && source_port(skb) != own;
}

/* Whether the kernel made this packet to carry another one: it says so, or the socket that it belongs to did not send it. */
static __always_inline int carries(const struct sk_buff *skb)
{
	struct sock *sk = skb->sk;

	if (skb->skb_iif)
		return 0; /* passes through: counted where it was made, if here */
	return !sk || BPF_CORE_READ_BITFIELD(skb, encapsulation) || wrapped(skb, sk);
}

static __always_inline int tunnel_protocol(__u8 protocol)
{
	return protocol == IPPROTO_UDP || protocol == IPPROTO_GRE || protocol == IPPROTO_IPIP || protocol == IPPROTO_IPV6 ||
	       protocol == IPPROTO_ESP;
}

/* Fills in where an outer packet comes from and goes to; 0 if it is none. */
static __always_inline int read_outer(const struct sk_buff *skb, struct outer *o)
{
	unsigned char *header = skb->head + skb->network_header;
	struct ipv4_header v4;
	struct ipv6_header v6;
	__be16 ports[2];
	__u32 length;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if (bpf_probe_read_kernel(&v4, sizeof(v4), header))
			return 0;
		if (skb->sk && (v4.fragment & bpf_htons(FRAGMENT_OFFSET)))
			return 0; /* has no port */
		o->key.family = AF_INET;
		o->flow.protocol = v4.protocol;
		map_v4(o->key.peer, v4.destination);
		map_v4(o->flow.local, v4.source);
		length = v4.length * 4;
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		if (bpf_probe_read_kernel(&v6, sizeof(v6), header))
			return 0;
		o->key.family = AF_INET6;
		o->flow.protocol = v6.next;
		copy_v6(o->key.peer, v6.destination);
		copy_v6(o->flow.local, v6.source);
		length = sizeof(v6);
	} else {
		return 0;
	}
	if (!tunnel_protocol(o->flow.protocol))
		return 0;
	if (o->flow.protocol == IPPROTO_UDP && !bpf_probe_read_kernel(ports, sizeof(ports), header + length))
		o->key.peer_port = bpf_ntohs(ports[1]);
	return 1;
}

static __noinline int count_outer(struct control *ctl, struct outer *o, __u32 length)
{
	__u32 slot = ctl->generation & 1;
	void *flows = bpf_map_lookup_elem(&flow_maps, &slot);
	struct count c = { .sends = 1, .sent = length };
	struct flow *f;

	if (!flows)
		return 0;
	f = bpf_map_lookup_elem(flows, &o->key);
	if (!f && !expired(ctl, bpf_ktime_get_boot_ns())) {
		bpf_map_update_elem(flows, &o->key, &o->flow, BPF_NOEXIST);
		f = bpf_map_lookup_elem(flows, &o->key);
	}
	if (f)
		add(f, &c);
	else
		lost(LOSS_TUNNEL_FULL, length, 0);
	return 0;
}

static __always_inline int on_queue(const struct sk_buff *skb)
{
	struct sock *sk = skb->sk;
	struct outer o = {};
	struct control *ctl;

	if (sk && !sk->__sk_common.skc_family)
		return on_tap(sk);
	if (!carries(skb))
		return 0;
	ctl = active();
	if (!ctl || !read_outer(skb, &o))
		return 0;
	o.key.peer_kind = PEER_EXACT;
	o.key.socket = TUNNEL_SOCKET | skb->dev->ifindex;
	o.flow.ifindex = skb->dev->ifindex;
	o.flow.netns = skb->dev->nd_net.net->ns.inum;
	o.flow.flags = FLOW_KERNEL | FLOW_TUNNEL;
	return count_outer(ctl, &o, skb->len);
}
