package sdk

import "slices"

// flowEntries is the one definition of `connections`: what it holds, in which order, and where each value comes from.
func flowEntries() []entry {
	return slices.Concat(oldEntries(), recordEntries(), networkEntries(), processEntries(), ancestorEntries())
}

// pick takes columns out of those of a flow, for a kind that has some of them.
func pick(names ...string) []entry {
	all := flowEntries()
	picked := make([]entry, len(names))
	for i, name := range names {
		picked[i] = all[slices.IndexFunc(all, func(e entry) bool { return e.name == name })]
	}
	return picked
}

// oldEntries are the columns of picosnitch 1.0.3, in their order.
func oldEntries() []entry {
	return []entry{
		{name: "contime", doc: "end of the window, local time of the recording host, YYYY-MM-DD hh:mm:ss", text: func(v *view) string { return localTime(v.window.GetEnd(), v.window.GetZoneOffset()) }},
		{name: "send", doc: "bytes that the process handed over", number: func(v *view) int64 { return int64(v.flow.GetSent()) }},
		{name: "recv", doc: "bytes that the process took", number: func(v *view) int64 { return int64(v.flow.GetReceived()) }},
		{name: "exe", doc: "path of the executable, in its own mount namespace (see exe_scope)", text: func(v *view) string { return textOf(v.process.GetExecutable().GetPath()) }},
		{name: "name", doc: "name of the process as executed", text: func(v *view) string { return textOf(v.process.GetName()) }},
		{name: "cmdline", doc: "arguments as executed, quoted as a shell needs them", text: func(v *view) string { return CommandLine(v.process.GetCommandLine()) }},
		{name: "sha256", doc: "of the executable; empty when there is none (see hash_status)", text: func(v *view) string { return hexText(v.process.GetExecutable().GetSha256()) }},
		{name: "pexe", doc: "exe of the parent", text: func(v *view) string { return textOf(v.parent.GetExecutable().GetPath()) }},
		{name: "pname", doc: "name of the parent", text: func(v *view) string { return textOf(v.parent.GetName()) }},
		{name: "pcmdline", doc: "cmdline of the parent", text: func(v *view) string { return CommandLine(v.parent.GetCommandLine()) }},
		{name: "psha256", doc: "sha256 of the parent", text: func(v *view) string { return hexText(v.parent.GetExecutable().GetSha256()) }},
		{name: "uid", doc: "real user id, -1 when not known", number: func(v *view) int64 { return uidOf(v.process) }},
		{name: "lport", doc: "local port, -1 when there is none", number: func(v *view) int64 { return portOf(v.local) }},
		{name: "rport", doc: "remote port, -1 when there is none", number: func(v *view) int64 { return portOf(v.flow.GetRemote()) }},
		{name: "laddr", doc: "local address", text: func(v *view) string { return Address(v.local) }},
		{name: "raddr", doc: "remote address", text: func(v *view) string { return Address(v.flow.GetRemote()) }},
		{name: "domain", doc: "name of the remote address, reversed: org.example.www", text: func(v *view) string { return Reversed(v.domain.GetName().GetValue()) }},
	}
}

// recordEntries say which record it is.
func recordEntries() []entry {
	return []entry{
		{name: "host_id", doc: "of the recording host, hexadecimal", text: func(v *view) string { return v.host }},
		{name: "epoch", doc: "run of the host, hexadecimal", text: func(v *view) string { return v.epoch }},
		{name: "seq", doc: "number of the record within its epoch", number: func(v *view) int64 { return int64(v.record.GetSequence()) }},
		{name: "window_start", doc: "UTC, nanoseconds since 1970", number: func(v *view) int64 { return v.window.GetStart() }},
		{name: "window_end", doc: "UTC, nanoseconds since 1970", number: func(v *view) int64 { return v.window.GetEnd() }},
	}
}

// networkEntries say what was exchanged, where, and how well that is known.
func networkEntries() []entry {
	return []entry{
		{name: "sends", doc: "calls that sent", number: func(v *view) int64 { return int64(v.flow.GetSends()) }},
		{name: "receives", doc: "calls that received", number: func(v *view) int64 { return int64(v.flow.GetReceives()) }},
		{name: "connects", doc: "attempts to connect", number: func(v *view) int64 { return int64(v.flow.GetConnects()) }},
		{name: "accepts", doc: "connections accepted", number: func(v *view) int64 { return int64(v.flow.GetAccepts()) }},
		{name: "failures", doc: "attempts to connect that failed", number: func(v *view) int64 { return int64(v.flow.GetFailures()) }},
		{name: "listens", doc: "times that the socket began to listen", number: func(v *view) int64 { return int64(v.flow.GetListens()) }},
		{name: "direction", doc: "out, in", text: func(v *view) string { return DirectionWord(v.flow.GetDirection()) }},
		{name: "result", doc: "pending, open, refused, timed-out, abandoned, failed, listening", text: func(v *view) string { return ResultWord(v.flow.GetResult()) }},
		{name: "layer", doc: "where bytes were counted: socket, packet, tunnel, interface", text: func(v *view) string { return LayerWord(v.flow.GetLayer()) }},
		{name: "family", doc: "address family (AF_*) of the socket", number: func(v *view) int64 { return int64(v.family) }},
		{name: "protocol", doc: "IP protocol number (IPPROTO_*)", number: func(v *view) int64 { return int64(v.protocol) }},
		{name: "peer", doc: "how well the peer is known: exact, inferred, none, folded", text: func(v *view) string { return PeerWord(v.flow.GetPeer()) }},
		{name: "folded_peers", doc: "further peers that this row sums up", number: func(v *view) int64 { return int64(v.flow.GetFoldedPeers()) }},
		{name: "candidates", doc: "peers that this row may belong to, address:port each", text: func(v *view) string { return addresses(v.flow.GetCandidates()) }},
		{name: "domain_source", doc: "getaddrinfo, dns-process, sni, dns-namespace, ptr, sni-outer", text: func(v *view) string { return NameSourceWord(v.domain.GetSource()) }},
		{name: "mapped", doc: "1: an IPv4 address used through an IPv6 socket", number: func(v *view) int64 { return truth(v.local.GetMapped() || v.flow.GetRemote().GetMapped()) }},
		{name: "netns", doc: "inode of the network namespace", number: func(v *view) int64 { return int64(v.netns) }},
		{name: "ifindex", doc: "interface that the socket is bound to", number: func(v *view) int64 { return int64(v.flow.GetIfindex()) }},
		{name: "socket", doc: "cookie of the socket", number: func(v *view) int64 { return int64(v.flow.GetSocket()) }},
		{name: "icmp_type", doc: "type of ICMP", number: func(v *view) int64 { return int64(v.flow.GetIcmpType()) }},
		{name: "icmp_code", doc: "code of ICMP", number: func(v *view) int64 { return int64(v.flow.GetIcmpCode()) }},
		{name: "attribution", doc: "how the process was found: kernel, iterator, proc, listener", text: func(v *view) string { return AttributionWord(v.flow.GetAttribution()) }},
		{name: "counting", doc: "how bytes were counted: tracepoint, fexit, cgroup, kprobe, estimate", text: func(v *view) string { return CountingWord(v.flow.GetCounting()) }},
		{name: "existing", doc: "1: the socket was open before the host started", number: func(v *view) int64 { return truth(v.flow.GetExisting()) }},
	}
}

// processEntries say who did it, beyond what the old columns say.
func processEntries() []entry {
	return []entry{
		{name: "pid", doc: "process id in the initial namespace", number: func(v *view) int64 { return int64(v.process.GetId().GetTgid()) }},
		{name: "inner_pid", doc: "process id in its own namespace", number: func(v *view) int64 { return int64(v.process.GetInnerPid()) }},
		{name: "start_time", doc: "start of the process, nanoseconds since boot", number: func(v *view) int64 { return v.process.GetId().GetStartBoot() }},
		{name: "exec_id", doc: "which of its executions", number: func(v *view) int64 { return int64(v.process.GetId().GetExecId()) }},
		{name: "boot_id", doc: "of the boot that pids belong to, hexadecimal", text: func(v *view) string { return v.boot.of(v.process.GetId().GetBootId()) }},
		{name: "euid", doc: "effective user id, -1 when not known", number: func(v *view) int64 { return auditID(v.process, v.process.GetEuid()) }},
		{name: "gid", doc: "real group id, -1 when not known", number: func(v *view) int64 { return auditID(v.process, v.process.GetRgid()) }},
		{name: "loginuid", doc: "user who logged in, -1 when unset", number: func(v *view) int64 { return auditID(v.process, v.process.GetLoginuid()) }},
		{name: "session", doc: "audit session, -1 when unset", number: func(v *view) int64 { return auditID(v.process, v.process.GetSession()) }},
		{name: "tty", doc: "terminal", text: func(v *view) string { return EscapeString(v.process.GetTty()) }},
		{name: "cgroup", doc: "path of the control group", text: func(v *view) string { return textOf(v.process.GetCgroup().GetPath()) }},
		{name: "unit", doc: "systemd unit", text: func(v *view) string { return unitOf(v.process.GetUnit()) }},
		{name: "container", doc: "container or app, as runtime:id", text: func(v *view) string { return containerOf(v.process.GetUnit()) }},
		{name: "unit_verified", doc: "1: unit and container are proved, 0: the user could have claimed them", number: func(v *view) int64 { return truth(v.process.GetUnit().GetVerified()) }},
		{name: "kernel", doc: "which part of the kernel, for traffic of its own", text: func(v *view) string { return EscapeString(v.process.GetKernel()) }},
		{name: "exe_scope", doc: "empty: the host sees this file at this path; else container, app or mntns:inode", text: func(v *view) string { return EscapeString(v.process.GetExecutable().GetScope()) }},
		{name: "hash_status", doc: "ok, pending, gone, changed, too-large, timeout, unreadable, kernel, racy, as-served", text: func(v *view) string { return HashStatusWord(v.process.GetExecutable().GetHashStatus()) }},
		{name: "script", doc: "that an interpreter runs", text: func(v *view) string { return textOf(v.process.GetExecutable().GetScript()) }},
		{name: "package", doc: "that owns the executable; empty so far: a notice of a new hash says it in its text", text: func(v *view) string { return EscapeString(v.process.GetExecutable().GetPackage()) }},
		{name: "claimed_cmdline", doc: "what the process says now, if different", text: func(v *view) string { return CommandLine(v.process.GetClaimedCommandLine()) }},
		{name: "pid_ns", doc: "inode of the pid namespace", number: func(v *view) int64 { return int64(v.process.GetPidNamespace()) }},
		{name: "mnt_ns", doc: "inode of the mount namespace", number: func(v *view) int64 { return int64(v.process.GetMountNamespace()) }},
		{name: "superblock", doc: "of the executable: the mounted file system", number: func(v *view) int64 { return int64(v.process.GetExecutable().GetSuperblock()) }},
		{name: "dev", doc: "device of the executable, as the kernel numbers it", number: func(v *view) int64 { return int64(v.process.GetExecutable().GetDevice()) }},
		{name: "inode", doc: "of the executable", number: func(v *view) int64 { return int64(v.process.GetExecutable().GetInode()) }},
		{name: "ctime", doc: "change time of the executable, UTC, nanoseconds since 1970", number: func(v *view) int64 { return v.process.GetExecutable().GetCtime() }},
		{name: "size", doc: "of the executable in bytes", number: func(v *view) int64 { return int64(v.process.GetExecutable().GetSize()) }},
	}
}

// ancestorEntries say who started it.
func ancestorEntries() []entry {
	return []entry{
		{name: "ppid", doc: "pid of the parent", number: func(v *view) int64 { return int64(v.parent.GetId().GetTgid()) }},
		{name: "puid", doc: "uid of the parent, -1 when not known", number: func(v *view) int64 { return uidOf(v.parent) }},
		{name: "pexe_scope", doc: "exe_scope of the parent", text: func(v *view) string { return EscapeString(v.parent.GetExecutable().GetScope()) }},
		{name: "phash_status", doc: "hash_status of the parent", text: func(v *view) string { return HashStatusWord(v.parent.GetExecutable().GetHashStatus()) }},
		{name: "gexe", doc: "exe of the grandparent", text: func(v *view) string { return textOf(v.grand.GetExecutable().GetPath()) }},
		{name: "gname", doc: "name of the grandparent", text: func(v *view) string { return textOf(v.grand.GetName()) }},
		{name: "gcmdline", doc: "cmdline of the grandparent", text: func(v *view) string { return CommandLine(v.grand.GetCommandLine()) }},
		{name: "gsha256", doc: "sha256 of the grandparent", text: func(v *view) string { return hexText(v.grand.GetExecutable().GetSha256()) }},
		{name: "gpid", doc: "pid of the grandparent", number: func(v *view) int64 { return int64(v.grand.GetId().GetTgid()) }},
		{name: "guid", doc: "uid of the grandparent, -1 when not known", number: func(v *view) int64 { return uidOf(v.grand) }},
		{name: "gexe_scope", doc: "exe_scope of the grandparent", text: func(v *view) string { return EscapeString(v.grand.GetExecutable().GetScope()) }},
		{name: "ghash_status", doc: "hash_status of the grandparent", text: func(v *view) string { return HashStatusWord(v.grand.GetExecutable().GetHashStatus()) }},
		{name: "truncated", doc: "columns whose text was cut, separated by commas", text: func(v *view) string { return truncatedOf(v) }},
	}
}
