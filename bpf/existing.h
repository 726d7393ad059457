/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/* Iterators: what was there before the probes, and the kernel's own view of the host's files. */
#pragma once

#include "process.h"
#include "state.h"

/* Arguments of another process; the iterator may sleep, so its pages are read even when they are not at hand. */
static __always_inline void copy_arguments(struct scratch *s, struct task_struct *task)
{
	struct mm_struct *mm = task->mm;
	unsigned long start;
	__u64 length;

	if (!mm)
		return;
	start = mm->arg_start;
	length = mm->arg_end - start;
	if (length > 0xffffffff)
		return;
	s->process.arguments_length = length;
	if (length <= TEXT_SHORT) {
		bpf_copy_from_user_task(s->process.arguments, length, (void *)start, task, 0);
		return;
	}
	s->process.flags |= PROCESS_LONG;
	bpf_copy_from_user_task(s->process.arguments, TEXT_SHORT, (void *)start, task, 0);
	if (length > TEXT_LONG)
		length = TEXT_LONG;
	bpf_copy_from_user_task(s->texts.arguments, length, (void *)start, task, 0);
}

static __always_inline int on_existing_task(struct task_struct *task)
{
	struct control *ctl = active();
	__u32 one = 1;
	struct scratch *s = bpf_map_lookup_elem(&scratches, &one);
	struct process_key key = {};
	struct file *file = NULL;

	if (!ctl || !s || !task || task->pid != task->tgid)
		return 0;
	process_of(task, &key);
	if (bpf_map_lookup_elem(&processes, &key))
		return 0;
	__builtin_memset(&s->process, 0, sizeof(s->process));
	s->process.began = key.start;
	s->process.flags = PROCESS_EXISTING;
	if (task->flags & PF_KTHREAD)
		s->process.flags |= PROCESS_THREAD;
	describe_task(&s->process, task);
	describe_parent(&s->process, task);
	if (task->mm)
		file = task->mm->exe_file;
	if (file) {
		describe_file(&s->process, file);
		describe_path(s, file, one);
		copy_arguments(s, task);
	}
	store_process(&key, &s->process, &s->texts, ctl);
	return 0;
}

/* A socket that is open already gets its flow, with 0 bytes; one that listens is remembered with its process. */
static __always_inline int on_existing_file(struct task_struct *task, struct file *file)
{
	struct control *ctl = active();
	struct count c = { .flags = FLOW_EXISTING, .softirq = 1 };
	struct flow_key key = {};
	struct socket_state *state;
	struct socket *socket;
	struct sock *sk;

	if (!ctl || !task || !file)
		return 0;
	socket = bpf_sock_from_file(file);
	sk = socket ? socket->sk : NULL;
	if (!sk || !counted_family(sk->__sk_common.skc_family))
		return 0;
	key.family = sk->__sk_common.skc_family;
	key.peer_kind = PEER_EXACT;
	key.local_port = sk->__sk_common.skc_num;
	key.socket = bpf_get_socket_cookie(sk);
	process_of(task, &key.process);
	c.uid = task->real_cred->uid.val;
	if (sk->sk_protocol == IPPROTO_TCP && sk->__sk_common.skc_state == TCP_LISTEN) {
		state = claim(sk, &key.process);
		if (state)
			state->uid = c.uid;
		key.peer_kind = PEER_NONE;
		c.direction = DIRECTION_IN;
		c.result = RESULT_LISTENING;
	} else if (internet(key.family) && sk->__sk_common.skc_dport && sk->__sk_common.skc_state != TCP_CLOSE) {
		socket_peer(sk, &key);
		if (sk->sk_protocol == IPPROTO_TCP) {
			state = claim(sk, &key.process);
			if (state)
				follow(state, sk);
		}
	} else {
		return 0;
	}
	return count_state(sk, ctl, &key, &c);
}

/* Which file, as the kernel names it, stands behind a descriptor of the host. */
static __always_inline int on_file_key(struct seq_file *seq, struct task_struct *task, struct file *file, __u32 fd)
{
	struct file_key key = { .fd = fd };
	struct inode *node;
	struct super_block *super;

	if (!task || !file || task->tgid != host_tgid)
		return 0;
	node = BPF_CORE_READ(file, f_inode);
	super = BPF_CORE_READ(node, i_sb);
	key.superblock = (__u64)super;
	key.device = BPF_CORE_READ(super, s_dev);
	key.inode = BPF_CORE_READ(node, i_ino);
	key.size = BPF_CORE_READ(node, i_size);
	key.ctime = inode_ctime(node);
	bpf_seq_write(seq, &key, sizeof(key));
	return 0;
}
