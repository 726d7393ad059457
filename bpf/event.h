/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/*
 * Every struct that crosses between kernel and host. Padding is written out; bpf2go makes the Go types from these.
 * LAYOUT is the version of all of them together: it is raised with every change, so that a newer host never reads maps
 * that an older one left pinned as if they were its own.
 */
#pragma once

#include "kernel.h"

#define LAYOUT 5

/* A process instance: one program image run by one process of this boot. */
struct process_key {
	__u64 start; /* start_boottime of the group leader, ns */
	__u32 tgid;  /* 0: the kernel itself */
	__u32 exec_id;
};

enum peer_kind {
	PEER_EXACT = 1,
	PEER_INFERRED = 2, /* several peers delivered to this socket; see PEER_CANDIDATE */
	PEER_NONE = 3,     /* a listening socket */
	PEER_UNKNOWN = 4,
	PEER_CANDIDATE = 5, /* no bytes: a peer that the PEER_INFERRED flow of the same socket may mean */
};

struct flow_key {
	struct process_key process;
	__u64 socket;     /* cookie */
	__u8 peer[16];    /* IPv4 as ::ffff:a.b.c.d */
	__u16 peer_port;  /* host order */
	__u16 family;     /* of the socket */
	__u16 peer_kind;
	__u16 local_port; /* host order: a socket may connect to one peer from several, one after the other */
};

enum direction {
	DIRECTION_UNKNOWN = 0,
	DIRECTION_OUT = 1,
	DIRECTION_IN = 2,
};

/* The numbers are those of wire.Result. */
enum result {
	RESULT_UNKNOWN = 0,
	RESULT_PENDING = 1,
	RESULT_OPEN = 2,
	RESULT_REFUSED = 3,
	RESULT_TIMED_OUT = 4,
	RESULT_ABANDONED = 5,
	RESULT_FAILED = 6,
	RESULT_LISTENING = 7,
};

enum flow_flag {
	FLOW_EXISTING = 1, /* found by an iterator at start */
	FLOW_KERNEL = 2,   /* the socket has no file: it is the kernel's own */
	FLOW_LISTENER = 4, /* process is the one that listens, not one that was seen to accept */
	FLOW_ESTIMATE = 8, /* some bytes are what was encrypted, not what was taken */
	FLOW_TUNNEL = 16,  /* packets of the kernel that carry others */
	FLOW_RAW = 32,     /* of a raw socket: what stands where others have their ports is none */
};

/* Sums of one flow_key in one generation. What follows the sums is written once, when the entry is made. */
struct flow {
	__u64 sent;
	__u64 received;
	__u64 sends;
	__u64 receives;
	__u32 connects;
	__u32 accepts;
	__u32 failures;
	__u32 listens;
	__u64 cgroup;
	__u64 superblock;
	__u64 inode;  /* of FLOW_KERNEL: sk_data_ready */
	__u32 device;
	__u32 uid;
	__u32 netns;
	__u32 ifindex;
	__u8 local[16];
	__u16 local_port;
	__u16 protocol;
	__u8 direction;
	__u8 result;
	__u8 flags;
	__u8 pad;
	__u8 name[16];
};

/* Sums of one process (or user: see owner_key) in one generation that have no flow of their own. */
struct owner {
	__u64 sent;
	__u64 received;
	__u64 sends;
	__u64 receives;
	__u64 folded; /* calls whose peer was not kept */
	__u64 flows;  /* entries made, or asked for */
	__u64 cgroup;
	__u64 superblock;
	__u64 inode;
	__u32 device;
	__u32 uid;
	__u32 netns;
	__u32 protocol; /* of all calls, OWNER_MIXED if they differ */
	__u8 name[16];
};

#define OWNER_MIXED 0xffffffff
#define OWNER_USER 0xffffffff /* process_key.exec_id of the entry that counts the flows of a user; tgid is the uid */

#define PATH_UNMOUNTED 1 /* path_ns of a file whose file system is mounted nowhere; no namespace has this number */

#define TEXT_SHORT 256
#define TEXT_LONG 4096

enum process_flag {
	PROCESS_FORKED = 1,   /* same image as its parent */
	PROCESS_EXISTING = 2, /* found by an iterator at start */
	PROCESS_LONG = 4,     /* path and arguments are in the map `long_texts` */
	PROCESS_THREAD = 8,   /* a kernel thread */
};

struct process {
	struct process_key parent;
	__u64 began;  /* boot ns */
	__u64 exited; /* boot ns, 0 while it runs */
	__u64 superblock;
	__u64 inode;
	__s64 ctime;
	__u64 size;
	__u64 cgroup;
	__u32 device;
	__u32 uid;
	__u32 euid;
	__u32 gid;
	__u32 loginuid;
	__u32 session;
	__u32 inner_pid;
	__u32 pid_ns;
	__u32 mount_ns;
	__u32 net_ns;
	__u32 flags;
	__u32 path_length;      /* of the whole */
	__u32 arguments_length; /* of the whole */
	__u32 path_kept;        /* of a path longer than TEXT_LONG its end is kept */
	__u32 script_length;    /* kept; 0: no script was executed */
	__u32 path_ns;          /* mount namespace that the path is of; 0: not known, or a file without a directory */
	__u8 name[16];
	__u8 tty[16];
	__u8 path[TEXT_SHORT];
	__u8 arguments[TEXT_SHORT];
	__u8 script[TEXT_SHORT]; /* as exec was given it, behind the directory that it was given from */
};

/* Path and arguments of a process for which TEXT_SHORT was too short. */
struct texts {
	__u8 path[TEXT_LONG];
	__u8 arguments[TEXT_LONG];
};

enum event_kind {
	EVENT_EXEC = 1,
	EVENT_FORK = 2,
	EVENT_EXIT = 3,
	EVENT_PAYLOAD = 4, /* begins a struct payload */
	EVENT_LOOKUP = 5,  /* begins a struct lookup */
	EVENT_UNCOUNTED = 6, /* the process uses a way that no call's result tells; `pad` is an enum uncounted */
};

enum uncounted {
	UNCOUNTED_XDP = 1,
	UNCOUNTED_RX_RING = 2,
	UNCOUNTED_TUN = 3,
	UNCOUNTED_RECEIVE_ZC = 4,
	UNCOUNTED_TAP = 5,
};

/* A hint that something changed in the map `processes`. */
struct event {
	struct process_key process;
	struct process_key before; /* EVENT_EXEC: the instance that it ends */
	__u64 time;                /* boot ns */
	__u32 kind;
	__u32 pad;
};

#define PAYLOAD_BYTES 2048

/* What a process said or was told that may name an address: DNS answers, first bytes of TLS and QUIC. */
struct payload {
	struct event event;
	__u64 socket;
	__u64 offset; /* of the data in its stream (TCP) */
	__u32 netns;
	__u32 uid;
	__u32 length; /* kept */
	__u16 family;
	__u16 protocol;
	__u8 remote[16];
	__u16 remote_port;
	__u8 received;
	__u8 pad[5];
	__u8 data[PAYLOAD_BYTES];
};

#define LOOKUP_ADDRESSES 8

/* What getaddrinfo told a process. */
struct lookup {
	struct event event;
	__u32 netns;
	__u32 uid;
	__u32 count;
	__u32 pad;
	__u8 addresses[LOOKUP_ADDRESSES][16];
	__u8 host[256];
};

/* The word that switches programs on and off and names the generation that they write to. */
struct control {
	__u64 tag;        /* programs whose own tag differs return at once; 0: all of them */
	__u64 generation; /* flow_maps[generation & 1] is written to */
	__u64 deadline;   /* boot ns: after this nobody drains any more and programs switch themselves off */
	__u64 began;      /* boot ns at which this generation began */
	__u64 began_before; /* and the one before */
	__u32 flow_share; /* entries of a flow map that one process or user may use */
	__u32 process_share;
};

/* Why something was not counted, or not where it belongs. Indices of the map `losses`. */
enum loss_cause {
	LOSS_FLOW_FULL = 0,     /* exact: bytes went to the owner's entry */
	LOSS_FLOW_MEMORY,       /* likewise */
	LOSS_FLOW_SHARE,        /* likewise */
	LOSS_OWNER_FULL,        /* bytes are lost, but for these counters */
	LOSS_PROCESS_FULL,
	LOSS_PROCESS_SHARE,
	LOSS_TEXT_FULL,         /* path and arguments cut to TEXT_SHORT */
	LOSS_EVENT_FULL,        /* hints: the host reads the whole map instead */
	LOSS_SOCKET_STORAGE,    /* a peer or a listener may be unknown */
	LOSS_THREAD_FULL,       /* likewise */
	LOSS_EXPIRED,           /* programs switched themselves off */
	LOSS_NAME_FULL,         /* an address may have no name */
	LOSS_TUNNEL_FULL,       /* no room for a tunnel's row: in no sum anyway */
	LOSS_CALL,              /* the end, or the begin, of a call was not seen: its bytes are lost */
	LOSS_CAUSES,
};

struct loss {
	__u64 events;
	__u64 sent;
	__u64 received;
};

/* An open file of the host itself, as iterator file_keys reports it. */
struct file_key {
	__u64 superblock;
	__u64 inode;
	__s64 ctime;
	__u64 size;
	__u32 device;
	__u32 fd;
};

/* Types that no map names still have to be in the object's BTF, from which the Go types are made. */
const struct event *unused_event __attribute__((unused));
const struct payload *unused_payload __attribute__((unused));
const struct lookup *unused_lookup __attribute__((unused));
const struct file_key *unused_file_key __attribute__((unused));
const enum loss_cause *unused_loss_cause __attribute__((unused));
const enum peer_kind *unused_peer_kind __attribute__((unused));
const enum flow_flag *unused_flow_flag __attribute__((unused));
const enum process_flag *unused_process_flag __attribute__((unused));
const enum uncounted *unused_uncounted __attribute__((unused));
const enum event_kind *unused_event_kind __attribute__((unused));
