/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/* An exec: what is run from now on, and for which script. */
#pragma once

#include "process.h"

/* Whether the first line of a script asked for env, which executes the interpreter that it finds. */
static __always_inline int asked_for_env(const struct process *p)
{
	const __u8 *name = p->arguments;
	__u64 end = 0; /* the bytes before a place in the name, as a number */

	if (!p->script_length)
		return 0;
	for (__u32 i = 0; i < TEXT_SHORT / 2 && name[i]; i++)
		end = end << 8 | name[i];
	return (end & 0xffffffff) == ('/' << 24 | 'e' << 16 | 'n' << 8 | 'v');
}

/* The directory of a task, with a slash behind it, in place of a script that was not given from the root; its length. */
static __always_inline __u32 describe_directory(struct scratch *s, struct task_struct *task)
{
	struct walk w = { .at = TEXT_LONG };
	__u32 length;

	w.dentry = BPF_CORE_READ(task, fs, pwd.dentry);
	w.mount = BPF_CORE_READ(task, fs, pwd.mnt);
	bpf_loop(TEXT_LONG / 2, step, &w, 0);
	length = TEXT_LONG - w.at;
	if (length >= TEXT_SHORT - 2)
		return 0;
	bpf_probe_read_kernel(s->process.script, length, s->path + TEXT_LONG - length);
	s->process.script[length] = '/';
	return length + 1;
}

/* The script that was executed, if the program is its interpreter, or if the one before it was env, which looked for it. */
static __always_inline void describe_script(struct scratch *s, struct task_struct *task, struct linux_binprm *binprm,
					    const struct process *old)
{
	const char *given = BPF_CORE_READ(binprm, filename);
	struct process *p = &s->process;
	char start[2] = {};
	__u32 before = 0;
	long length;

	if (given == BPF_CORE_READ(binprm, interp)) {
		if (!old || !asked_for_env(old))
			return;
		__builtin_memcpy(p->script, old->script, sizeof(p->script));
		p->script_length = old->script_length;
		return;
	}
	bpf_probe_read_kernel(start, sizeof(start), given);
	if (start[0] != '/')
		before = describe_directory(s, task);
	if (before && start[0] == '.' && start[1] == '/')
		given += 2;
	before &= TEXT_SHORT - 1; /* which it is: for the verifier */
	length = bpf_probe_read_kernel_str(p->script + before, TEXT_SHORT - before, given);
	p->script_length = length > 1 ? before + length - 1 : 0;
}

static __always_inline int on_exec(struct task_struct *task, struct linux_binprm *binprm)
{
	struct control *ctl = active();
	__u32 zero = 0;
	struct scratch *s = bpf_map_lookup_elem(&scratches, &zero);
	struct process_key key = {}, before;
	__u64 now = bpf_ktime_get_boot_ns();
	struct process *old;

	if (!ctl || !s || expired(ctl, now))
		return 0;
	process_of(task, &key);
	before = key;
	before.exec_id--;
	__builtin_memset(&s->process, 0, sizeof(s->process));
	s->process.began = now;
	describe_task(&s->process, task);
	old = bpf_map_lookup_elem(&processes, &before);
	if (old)
		s->process.parent = old->parent; /* also when that one has ended meanwhile */
	else
		describe_parent(&s->process, task);
	describe_file(&s->process, binprm->file);
	describe_path(s, binprm->file, zero);
	describe_arguments(s, task);
	describe_script(s, task, binprm, old);
	store_process(&key, &s->process, &s->texts, ctl);
	if (old)
		old->exited = now;
	hint(EVENT_EXEC, &key, &before, now);
	return 0;
}
