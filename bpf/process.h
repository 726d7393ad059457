/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/* Who runs what: facts of every process instance, taken when it begins and kept until the host lets go of them. */
#pragma once

#include "flow.h"

#define PROCESS_ENTRIES 65536 /* replaced by the host */

/*
 * Inserted at exec, fork and by the iterator at start; `exited` is set at the end; deleted by the host alone, once the
 * process has ended and nothing asks for it any more. Full, or beyond the user's share: counted, and the process is
 * known by what its flows say of it.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, PROCESS_ENTRIES);
	__type(key, struct process_key);
	__type(value, struct process);
} processes SEC(".maps");

/* Same life as the entry in `processes`. Full: path and arguments are cut. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, PROCESS_ENTRIES / 8);
	__type(key, struct process_key);
	__type(value, struct texts);
} long_texts SEC(".maps");

/* Entries in `processes` per user: made (by programs) and removed (by the host, which alone writes `removed`). */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, __u64);
} users_made SEC(".maps"), users_removed SEC(".maps");

/* Hints. Full: counted, and the host reads all of `processes`. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20); /* replaced by the host */
} events SEC(".maps");

/* Room to put a process together: too large for the stack. One per program that may run on a CPU at once. */
struct scratch {
	struct process process;
	__u8 path[TEXT_LONG + TEXT_SHORT]; /* filled from its end */
	struct texts texts;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2); /* 0: exec and fork, 1: the iterator */
	__type(key, __u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

/*
 * Only an exec is urgent: its file may be gone soon. Forks and exits wait to be read with the next exec or drain, unless
 * they fill half of the buffer.
 */
static __always_inline __u64 wakeup(__u32 kind)
{
	if (kind == EVENT_EXEC)
		return BPF_RB_FORCE_WAKEUP;
	if (bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) > bpf_ringbuf_query(&events, BPF_RB_RING_SIZE) / 2)
		return BPF_RB_FORCE_WAKEUP;
	return BPF_RB_NO_WAKEUP;
}

static __always_inline void hint(__u32 kind, const struct process_key *key, const struct process_key *before, __u64 now)
{
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e) {
		lost(LOSS_EVENT_FULL, 0, 0);
		return;
	}
	e->process = *key;
	e->before = *before;
	e->time = now;
	e->kind = kind;
	e->pad = 0;
	bpf_ringbuf_submit(e, wakeup(kind));
}

static __always_inline __s64 inode_ctime(struct inode *node)
{
	struct inode___6_6 *node_6_6 = (void *)node;
	struct inode___6_1 *node_6_1 = (void *)node;
	struct timespec64 t;

	/* From 6.13 on the top bit of the nanoseconds says that somebody has asked for the time. */
	if (bpf_core_field_exists(node->i_ctime_sec))
		return BPF_CORE_READ(node, i_ctime_sec) * 1000000000 + (BPF_CORE_READ(node, i_ctime_nsec) & 0x7fffffff);
	if (bpf_core_field_exists(node_6_6->__i_ctime))
		t = BPF_CORE_READ(node_6_6, __i_ctime);
	else
		t = BPF_CORE_READ(node_6_1, i_ctime);
	return t.tv_sec * 1000000000 + (t.tv_nsec & 0x7fffffff);
}

static __always_inline void describe_file(struct process *p, struct file *file)
{
	struct inode *node = BPF_CORE_READ(file, f_inode);
	struct super_block *super = BPF_CORE_READ(node, i_sb);

	p->superblock = (__u64)super;
	p->device = BPF_CORE_READ(super, s_dev);
	p->inode = BPF_CORE_READ(node, i_ino);
	p->size = BPF_CORE_READ(node, i_size);
	p->ctime = inode_ctime(node);
}

/* What a fork may have in another way than its parent, and an exec in another way than before. */
static __always_inline void describe_task(struct process *p, struct task_struct *task)
{
	struct pid *pid = BPF_CORE_READ(task, thread_pid);
	unsigned int level = BPF_CORE_READ(pid, level);
	struct nsproxy *ns = BPF_CORE_READ(task, nsproxy);
	const struct cred *cred = BPF_CORE_READ(task, real_cred);
	struct upid inner = {};

	bpf_core_read(&inner, sizeof(inner), &pid->numbers[level]);
	p->inner_pid = inner.nr;
	p->pid_ns = BPF_CORE_READ(inner.ns, ns.inum);
	p->mount_ns = BPF_CORE_READ(ns, mnt_ns, ns.inum);
	p->net_ns = BPF_CORE_READ(ns, net_ns, ns.inum);
	p->uid = BPF_CORE_READ(cred, uid.val);
	p->euid = BPF_CORE_READ(cred, euid.val);
	p->gid = BPF_CORE_READ(cred, gid.val);
	p->loginuid = BPF_CORE_READ(task, loginuid.val);
	p->session = BPF_CORE_READ(task, sessionid);
	p->cgroup = BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, id);
	__builtin_memset(p->tty, 0, sizeof(p->tty));
	BPF_CORE_READ_STR_INTO(&p->tty, task, signal, tty, name);
	__builtin_memset(p->name, 0, sizeof(p->name));
	BPF_CORE_READ_STR_INTO(&p->name, task, group_leader, comm);
}

static __always_inline void describe_parent(struct process *p, struct task_struct *task)
{
	struct task_struct *parent = BPF_CORE_READ(task, real_parent);

	p->parent.tgid = BPF_CORE_READ(parent, tgid);
	p->parent.start = BPF_CORE_READ(parent, group_leader, start_boottime);
	p->parent.exec_id = (__u32)BPF_CORE_READ(parent, self_exec_id);
}

/* One step of a path from its end to its root. */
struct walk {
	struct dentry *dentry;
	struct vfsmount *mount;
	__u32 scratch;
	__u32 at;    /* where the text begins in scratch.path */
	__u32 whole; /* length, also of what did not fit */
};

static long step(__u64 index, void *context)
{
	struct walk *w = context;
	struct scratch *s = bpf_map_lookup_elem(&scratches, &w->scratch);
	struct dentry *dentry = w->dentry;
	struct vfsmount *vfsmount = w->mount;
	struct dentry *parent = BPF_CORE_READ(dentry, d_parent), *root = BPF_CORE_READ(vfsmount, mnt_root);
	struct mount *mount, *above;
	const unsigned char *name;
	__u32 length;

	if (!s)
		return 1;
	if (dentry == parent && dentry != root && !index)
		parent = root; /* a memfd: a name without a directory */
	else if (dentry == parent || dentry == root) {
		mount = (void *)vfsmount - bpf_core_field_offset(struct mount, mnt);
		above = BPF_CORE_READ(mount, mnt_parent);
		if (above == mount)
			return 1;
		w->dentry = BPF_CORE_READ(mount, mnt_mountpoint);
		w->mount = (void *)above + bpf_core_field_offset(struct mount, mnt);
		return 0;
	}
	length = BPF_CORE_READ(dentry, d_name.len) & 0xff;
	name = BPF_CORE_READ(dentry, d_name.name);
	w->dentry = parent;
	w->whole += length + 1;
	if (w->at <= length)
		return 0;
	w->at -= length;
	if (w->at >= TEXT_LONG)
		return 1;
	bpf_probe_read_kernel(s->path + w->at, length, name);
	w->at--;
	if (w->at >= TEXT_LONG)
		return 1;
	s->path[w->at] = '/';
	return 0;
}

/* The mount namespace that a path is of need not be its process's: /proc/PID/root and descriptors lead into others. */
static __always_inline __u32 path_namespace(struct file *file)
{
	struct vfsmount *vfsmount = BPF_CORE_READ(file, f_path.mnt);
	struct mount *mount = (void *)vfsmount - bpf_core_field_offset(struct mount, mnt);
	struct mnt_namespace *ns = BPF_CORE_READ(mount, mnt_ns);
	__u32 number;

	if ((__u64)ns > -4096ULL) /* an error for a pointer: the kernel's own, where memfds are */
		return 0;
	number = ns ? BPF_CORE_READ(ns, ns.inum) : 0;
	return number ? number : PATH_UNMOUNTED;
}

/* The path of a file in the mount namespace that it was opened in, as /proc/PID/exe would show it. */
static __always_inline void describe_path(struct scratch *s, struct file *file, __u32 scratch)
{
	struct walk w = { .scratch = scratch, .at = TEXT_LONG };
	__u32 length;

	w.dentry = BPF_CORE_READ(file, f_path.dentry);
	w.mount = BPF_CORE_READ(file, f_path.mnt);
	bpf_loop(TEXT_LONG / 2, step, &w, 0);
	s->process.path_ns = path_namespace(file);
	s->process.path_length = w.whole;
	if (w.at >= TEXT_LONG)
		return;
	length = TEXT_LONG - w.at;
	s->process.path_kept = length;
	bpf_probe_read_kernel(s->process.path, length > TEXT_SHORT ? TEXT_SHORT : length, s->path + w.at);
	if (length <= TEXT_SHORT)
		return;
	s->process.flags |= PROCESS_LONG;
	if (length <= TEXT_LONG)
		bpf_probe_read_kernel(s->texts.path, length, s->path + w.at);
}

/* Arguments of the current process, as the exec has just laid them out. */
static __always_inline void describe_arguments(struct scratch *s, struct task_struct *task)
{
	struct mm_struct *mm = BPF_CORE_READ(task, mm);
	unsigned long start = BPF_CORE_READ(mm, arg_start);
	__u64 length = BPF_CORE_READ(mm, arg_end) - start;

	if (length > 0xffffffff)
		return;
	s->process.arguments_length = length;
	if (length <= TEXT_SHORT) {
		bpf_probe_read_user(s->process.arguments, length, (void *)start);
		return;
	}
	s->process.flags |= PROCESS_LONG;
	bpf_probe_read_user(s->process.arguments, TEXT_SHORT, (void *)start);
	if (length > TEXT_LONG)
		length = TEXT_LONG;
	bpf_probe_read_user(s->texts.arguments, length, (void *)start);
}

/* Whether the user of a new entry has room for it. */
static __always_inline int process_room(__u32 uid, struct control *ctl)
{
	__u64 *made = bpf_map_lookup_elem(&users_made, &uid);
	__u64 *removed = bpf_map_lookup_elem(&users_removed, &uid);
	__u64 one = 1;

	if (!made) {
		bpf_map_update_elem(&users_made, &uid, &one, BPF_NOEXIST);
		return 1;
	}
	if ((__s64)(*made - (removed ? *removed : 0)) >= ctl->process_share) {
		lost(LOSS_PROCESS_SHARE, 0, 0);
		return 0;
	}
	__sync_fetch_and_add(made, 1);
	return 1;
}

static __always_inline int store_process(const struct process_key *key, const struct process *p, const struct texts *t,
					 struct control *ctl)
{
	if (!process_room(p->uid, ctl))
		return 0;
	if ((p->flags & PROCESS_LONG) && bpf_map_update_elem(&long_texts, key, t, BPF_ANY))
		lost(LOSS_TEXT_FULL, 0, 0);
	if (bpf_map_update_elem(&processes, key, p, BPF_ANY)) {
		lost(LOSS_PROCESS_FULL, 0, 0);
		return 0;
	}
	return 1;
}

static __always_inline int on_fork(struct task_struct *parent, struct task_struct *child)
{
	struct control *ctl = active();
	__u32 zero = 0;
	struct scratch *s = bpf_map_lookup_elem(&scratches, &zero);
	struct process_key key = {}, from = {};
	__u64 now = bpf_ktime_get_boot_ns();
	struct process *image;
	struct texts *t;

	if (!ctl || !s || child->pid != child->tgid || expired(ctl, now))
		return 0;
	process_of(child, &key);
	process_of(parent, &from);
	__builtin_memset(&s->process, 0, sizeof(s->process));
	image = bpf_map_lookup_elem(&processes, &from);
	if (image)
		s->process = *image;
	else if (child->mm)
		describe_file(&s->process, child->mm->exe_file);
	s->process.began = now;
	s->process.exited = 0;
	s->process.flags = (s->process.flags & PROCESS_LONG) | PROCESS_FORKED;
	if (child->flags & PF_KTHREAD)
		s->process.flags |= PROCESS_THREAD;
	describe_task(&s->process, child);
	s->process.parent = from; /* not real_parent: whoever forks may have the child given to another (CLONE_PARENT) */
	t = bpf_map_lookup_elem(&long_texts, &from);
	if (!t) {
		s->process.flags &= ~PROCESS_LONG;
		t = &s->texts;
	}
	store_process(&key, &s->process, t, ctl);
	hint(EVENT_FORK, &key, &from, now);
	return 0;
}

static __always_inline int on_exit(struct task_struct *task)
{
	struct process_key key = {};
	struct process *p;
	__u64 now;

	if (!active())
		return 0;
	leave_desk(task->pid);
	if (task->signal->live.counter)
		return 0;
	process_of(task, &key);
	now = bpf_ktime_get_boot_ns();
	p = bpf_map_lookup_elem(&processes, &key);
	if (p)
		p->exited = now;
	hint(EVENT_EXIT, &key, &key, now);
	return 0;
}
