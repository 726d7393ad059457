/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/* Counting: which flow a call belongs to, and its sums. */
#pragma once

#include "socket.h"

#define FLOW_ENTRIES 131072 /* replaced by the host */
#define OWNER_ENTRIES 16384

/*
 * The sums, in two maps of which one is written to: control.generation & 1. Inserted and added to by every program;
 * read, and after that emptied, by the host, and only while the other one is in use. Full: the bytes go to `owners`.
 */
struct flow_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, FLOW_ENTRIES);
	__type(key, struct flow_key);
	__type(value, struct flow);
} flows_0 SEC(".maps"), flows_1 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2);
	__type(key, __u32);
	__array(values, struct flow_map);
} flow_maps SEC(".maps") = { .values = { &flows_0, &flows_1 } };

/* Per process and per user, in the same rhythm: how many flows they have, and what found no flow. Full: `losses`. */
struct owner_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, OWNER_ENTRIES);
	__type(key, struct process_key);
	__type(value, struct owner);
} owners_0 SEC(".maps"), owners_1 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2);
	__type(key, __u32);
	__array(values, struct owner_map);
} owner_maps SEC(".maps") = { .values = { &owners_0, &owners_1 } };

/* One thing that happened on a socket. */
struct count {
	__u64 sent;
	__u64 received;
	__u8 sends;
	__u8 receives;
	__u8 connects;
	__u8 accepts;
	__u8 failures;
	__u8 listens;
	__u8 direction;
	__u8 result;
	__u8 flags;
	__u8 softirq; /* the current task has nothing to do with it */
	__u16 protocol; /* if it is not the socket's own */
	__u32 uid;    /* then: of the process that it belongs to */
};

static __always_inline void process_of(struct task_struct *task, struct process_key *key)
{
	key->start = task->group_leader->start_boottime;
	key->tgid = task->tgid;
	key->exec_id = (__u32)task->self_exec_id;
}

/* Whose call it is: the kernel's own sockets have a key of zeros. Without a branch, as kernel_owned is. */
static __always_inline void set_caller(struct sock *sk, struct task_struct *task, struct flow_key *key, struct count *c)
{
	__u64 owned = kernel_owned(sk), mask = owned - 1;

	process_of(task, &key->process);
	key->process.start &= mask;
	key->process.tgid &= mask;
	key->process.exec_id &= mask;
	c->flags |= owned * FLOW_KERNEL;
}

/* The peer that an internet socket itself has. */
static __always_inline void internet_peer(struct sock *sk, struct flow_key *key)
{
	if (key->family == AF_INET)
		map_v4(key->peer, sk->__sk_common.skc_daddr);
	else
		copy_v6(key->peer, sk->__sk_common.skc_v6_daddr.in6_u.u6_addr32);
	key->peer_port = bpf_ntohs(sk->__sk_common.skc_dport);
}

static __always_inline void socket_peer(struct sock *sk, struct flow_key *key)
{
	if (internet(key->family))
		internet_peer(sk, key);
	else
		key->peer_kind = PEER_UNKNOWN;
}

static __always_inline __u16 local_port(struct sock *sk)
{
	struct inet_sock *inet = (struct inet_sock *)sk;

	/* Not skc_num: a socket that is being closed has lost it already. */
	return bpf_ntohs(BPF_CORE_READ(inet, inet_sport));
}

static __always_inline void add(struct flow *f, const struct count *c)
{
	if (c->sends) {
		__sync_fetch_and_add(&f->sent, c->sent);
		__sync_fetch_and_add(&f->sends, 1);
	}
	if (c->receives) {
		__sync_fetch_and_add(&f->received, c->received);
		__sync_fetch_and_add(&f->receives, 1);
	}
}

/* State changes are rare and come with the whole socket: what was not known yet is filled in. */
static __always_inline void add_state(struct flow *f, struct sock *sk, const struct count *c)
{
	if (c->connects)
		__sync_fetch_and_add(&f->connects, 1);
	if (c->accepts)
		__sync_fetch_and_add(&f->accepts, 1);
	if (c->failures)
		__sync_fetch_and_add(&f->failures, 1);
	if (c->listens)
		__sync_fetch_and_add(&f->listens, 1);
	if (c->direction)
		f->direction = c->direction;
	if (c->result)
		f->result = c->result;
	if (!f->local_port)
		f->local_port = local_port(sk);
}

/* The file that a task runs, for the case that its exec was lost. */
static __always_inline void task_file(struct task_struct *task, __u64 *superblock, __u32 *device, __u64 *inode)
{
	struct mm_struct *mm = task->mm;
	struct file *file = mm ? mm->exe_file : NULL;
	struct inode *node = file ? file->f_inode : NULL;

	if (!node)
		return;
	*superblock = (__u64)node->i_sb;
	*device = node->i_sb->s_dev;
	*inode = node->i_ino;
}

static __always_inline void describe_owner(struct owner *o, struct sock *sk, const struct count *c)
{
	struct task_struct *task = bpf_get_current_task_btf();

	o->netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	o->protocol = sk->sk_protocol;
	o->uid = c->uid;
	if (c->softirq)
		return;
	o->uid = task->real_cred->uid.val;
	o->cgroup = BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, id);
	task_file(task, &o->superblock, &o->device, &o->inode);
	BPF_CORE_READ_STR_INTO(&o->name, task, group_leader, comm);
}

/* The end of this side: what the socket is bound to. */
static __always_inline void describe_local(struct flow *f, struct sock *sk, __u16 family)
{
	struct packet_sock *packet = (struct packet_sock *)sk;

	if (family == AF_INET) {
		f->local_port = local_port(sk);
		map_v4(f->local, sk->__sk_common.skc_rcv_saddr);
	} else if (family == AF_INET6) {
		f->local_port = local_port(sk);
		copy_v6(f->local, sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32);
	} else if (family == AF_PACKET) {
		f->ifindex = BPF_CORE_READ(packet, ifindex);
		f->protocol = bpf_ntohs(BPF_CORE_READ(packet, num)); /* ethertype */
	}
}

static __always_inline void describe_flow(struct flow *f, struct sock *sk, const struct flow_key *key, const struct count *c)
{
	struct task_struct *task = bpf_get_current_task_btf();

	f->netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	f->ifindex = sk->__sk_common.skc_bound_dev_if;
	f->protocol = c->protocol ? c->protocol : sk->sk_protocol;
	describe_local(f, sk, key->family);
	f->flags = c->flags;
	if (sk->sk_type == SOCK_RAW)
		f->flags |= FLOW_RAW;
	f->uid = c->uid;
	if (c->flags & FLOW_KERNEL)
		f->inode = (__u64)sk->sk_data_ready;
	if (c->softirq || (c->flags & FLOW_KERNEL))
		return;
	f->uid = task->real_cred->uid.val;
	f->cgroup = BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, id);
	task_file(task, &f->superblock, &f->device, &f->inode);
	BPF_CORE_READ_STR_INTO(&f->name, task, group_leader, comm);
}

/* The entry of a process or user in this generation, made if missing. */
static __always_inline struct owner *owner_of(void *owners, const struct process_key *key, const struct owner *fresh)
{
	struct owner *o = bpf_map_lookup_elem(owners, key);

	if (o)
		return o;
	bpf_map_update_elem(owners, key, fresh, BPF_NOEXIST);
	return bpf_map_lookup_elem(owners, key);
}

static __always_inline void fold(struct owner *o, const struct count *c, __u16 protocol)
{
	if (!c->sends && !c->receives)
		return;
	__sync_fetch_and_add(&o->sent, c->sent);
	__sync_fetch_and_add(&o->sends, c->sends);
	__sync_fetch_and_add(&o->received, c->received);
	__sync_fetch_and_add(&o->receives, c->receives);
	__sync_fetch_and_add(&o->folded, 1);
	if (o->protocol != protocol)
		o->protocol = OWNER_MIXED;
}

/* Where a call is counted that gets no flow: with its process, or (beyond its user's share) with its user. */
static __always_inline struct owner *find_owner(void *owners, const struct flow_key *key, const struct owner *fresh, __u32 share,
						int *over)
{
	struct process_key user_key = { .tgid = fresh->uid, .exec_id = OWNER_USER };
	struct owner *user = owner_of(owners, &user_key, fresh);
	struct owner *owner = bpf_map_lookup_elem(owners, &key->process);

	*over = user && __sync_fetch_and_add(&user->flows, 1) >= share;
	if (!owner && *over)
		return user;
	if (!owner)
		owner = owner_of(owners, &key->process, fresh);
	if (owner && __sync_fetch_and_add(&owner->flows, 1) >= share)
		*over = 1;
	return owner;
}

/* The owner's entry for a new flow; NULL if the call is counted in another way already. A function of its own for its stack. */
static __noinline struct owner *claim_owner(struct sock *sk, struct control *ctl, const struct flow_key *key, const struct count *c)
{
	__u32 slot = ctl->generation & 1;
	void *owners = bpf_map_lookup_elem(&owner_maps, &slot);
	struct owner fresh = {};
	struct owner *owner;
	int over;

	if (!owners)
		return NULL;
	describe_owner(&fresh, sk, c);
	owner = find_owner(owners, key, &fresh, ctl->flow_share, &over);
	if (!owner) {
		lost(LOSS_OWNER_FULL, c->sent, c->received);
		return NULL;
	}
	if (!over)
		return owner;
	fold(owner, c, sk->sk_protocol);
	lost(LOSS_FLOW_SHARE, c->sent, c->received);
	return NULL;
}

static __noinline int make_flow(struct sock *sk, void *flows, const struct flow_key *key, const struct count *c)
{
	struct flow flow = {};

	describe_flow(&flow, sk, key, c);
	return bpf_map_update_elem(flows, key, &flow, BPF_NOEXIST);
}

/*
 * The slow way: the first time in a generation that a process, a socket and a peer come together. A process or user that
 * has used up its share, and whatever finds the map full, is counted without its peer.
 */
static __noinline int first_count(struct sock *sk, struct control *ctl, const struct flow_key *key, const struct count *c)
{
	__u32 slot = ctl->generation & 1;
	void *flows = bpf_map_lookup_elem(&flow_maps, &slot);
	struct owner *owner;
	struct flow *f;
	int err;

	if (!flows || expired(ctl, bpf_ktime_get_boot_ns()))
		return 0;
	owner = claim_owner(sk, ctl, key, c);
	if (!owner)
		return 0;
	err = make_flow(sk, flows, key, c);
	f = bpf_map_lookup_elem(flows, key);
	if (!f) {
		fold(owner, c, sk->sk_protocol);
		lost(err == -E2BIG ? LOSS_FLOW_FULL : LOSS_FLOW_MEMORY, c->sent, c->received);
		return 0;
	}
	add(f, c);
	add_state(f, sk, c);
	return 0;
}

static __always_inline struct flow *flow_of(struct control *ctl, const struct flow_key *key)
{
	__u32 slot = ctl->generation & 1;
	void *flows = bpf_map_lookup_elem(&flow_maps, &slot);

	return flows ? bpf_map_lookup_elem(flows, key) : NULL;
}

/* Remembers with the socket whose it is, for what happens outside of any process. */
static __always_inline struct socket_state *claim(struct sock *sk, const struct process_key *owner)
{
	struct socket_state *state = bpf_sk_storage_get(&sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);

	if (!state) {
		lost(LOSS_SOCKET_STORAGE, 0, 0);
		return NULL;
	}
	state->owner = *owner;
	state->uid = bpf_get_current_uid_gid();
	state->netns = sk->__sk_common.skc_net.net->ns.inum;
	return state;
}
