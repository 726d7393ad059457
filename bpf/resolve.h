/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/* getaddrinfo of the C library: which name a process asked for, and which addresses it was told. */
#pragma once

#include "process.h"

/* The first of struct addrinfo's fields, as glibc and musl have it on 64-bit machines. */
struct addrinfo_64 {
	__s32 flags;
	__s32 family;
	__s32 socktype;
	__s32 protocol;
	__u32 length;
	__u32 pad;
	__u64 address;
	__u64 canonical;
	__u64 next;
};

struct question {
	__u64 result; /* where the caller wants the list */
	__u8 host[256];
};

/* Questions under way, by thread. A thread that ends in between leaves one behind, which the next question replaces. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, struct question);
} questions SEC(".maps");

/* An argument of the call that was probed, or with -1 what it returned. */
static __always_inline __u64 argument(void *registers, int n)
{
	struct pt_regs___x86 *x86 = registers;
	struct pt_regs___arm64 *arm = registers;
	__u64 value = 0;

	if (bpf_core_field_exists(x86->di)) {
		if (n == 0)
			return BPF_CORE_READ(x86, di);
		if (n == 1)
			return BPF_CORE_READ(x86, si);
		if (n == 3)
			return BPF_CORE_READ(x86, cx);
		return BPF_CORE_READ(x86, ax);
	}
	if (bpf_core_field_exists(arm->regs))
		bpf_core_read(&value, sizeof(value), &arm->regs[n < 0 ? 0 : n]);
	return value;
}

static __always_inline int on_question(void *registers)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct question q = {};

	if (!active())
		return 0;
	q.result = argument(registers, 3);
	if (bpf_probe_read_user_str(q.host, sizeof(q.host), (void *)argument(registers, 0)) <= 1)
		return 0;
	bpf_map_update_elem(&questions, &thread, &q, BPF_ANY);
	return 0;
}

/* One address of the list; 0 when it is none that can be read. */
static __always_inline int read_address(__u64 at, __u8 *address)
{
	__u16 family = 0;
	__be32 v4 = 0;

	if (bpf_probe_read_user(&family, sizeof(family), (void *)at))
		return 0;
	if (family == AF_INET) {
		bpf_probe_read_user(&v4, sizeof(v4), (void *)(at + 4));
		map_v4(address, v4);
		return 1;
	}
	return family == AF_INET6 && !bpf_probe_read_user(address, 16, (void *)(at + 8));
}

static __always_inline int on_result(void *registers)
{
	__u64 thread = bpf_get_current_pid_tgid(), at = 0;
	struct question *q = bpf_map_lookup_elem(&questions, &thread);
	struct task_struct *task = bpf_get_current_task_btf();
	struct addrinfo_64 info;
	struct lookup *l;

	if (!q)
		return 0;
	if (!active() || (int)argument(registers, -1) || bpf_probe_read_user(&at, sizeof(at), (void *)q->result))
		goto out;
	l = bpf_ringbuf_reserve(&events, sizeof(*l), 0);
	if (!l) {
		lost(LOSS_NAME_FULL, 0, 0);
		goto out;
	}
	__builtin_memset(&l->event, 0, sizeof(l->event));
	process_of(task, &l->event.process);
	l->event.time = bpf_ktime_get_boot_ns();
	l->event.kind = EVENT_LOOKUP;
	l->netns = BPF_CORE_READ(task, nsproxy, net_ns, ns.inum);
	l->uid = BPF_CORE_READ(task, real_cred, uid.val);
	l->count = 0;
	l->pad = 0;
	__builtin_memcpy(l->host, q->host, sizeof(l->host));
	for (int i = 0; i < LOOKUP_ADDRESSES && at; i++) {
		if (bpf_probe_read_user(&info, sizeof(info), (void *)at) || !read_address(info.address, l->addresses[i]))
			break;
		l->count = i + 1;
		at = info.next;
	}
	bpf_ringbuf_submit(l, wakeup(EVENT_LOOKUP));
out:
	bpf_map_delete_elem(&questions, &thread);
	return 0;
}
