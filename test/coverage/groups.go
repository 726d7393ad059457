package main

// path is a case of the lab, in words.
type path struct{ name, words string }

type group struct {
	title string
	paths []path
}

// groups are all cases of the lab in the order of the table. A test proves that none is missing.
func groups() []group {
	return []group{
		{"TCP", tcp()}, {"io_uring", ring()}, {"UDP", udp()}, {"ICMP, raw sockets, SCTP", raw()},
		{"Packets, tunnels, others", packet()}, {"Whose bytes they are", whose()},
		{"Which file was executed", executed()}, {"Names of addresses", named()}, {"The daemon's life", life()}, {"Volume", volume()},
	}
}

func tcp() []path {
	return []path{
		{"tcp4", "both ways, IPv4"},
		{"tcp6", "both ways, IPv6"},
		{"tcp4-loopback", "loopback, IPv4"},
		{"tcp6-loopback", "loopback, IPv6"},
		{"tcp4-host-loopback", "loopback of the host itself"},
		{"tcp-mapped", "IPv4 over an IPv6 socket"},
		{"tcp-bulk", "megabytes at once"},
		{"tcp-many-connections", "many small connections"},
		{"tcp-drip", "a few bytes now and then, over several windows"},
		{"tcp-parallel-burst", "eight processes at once"},
		{"tcp-read-and-peek", "read, and MSG_PEEK, which takes nothing"},
		{"tcp-peek-offset", "SO_PEEK_OFF"},
		{"tcp-end-of-stream", "the end of a stream is no byte"},
		{"tcp-refused", "refused connects"},
		{"tcp-pending", "connects that nobody answers"},
		{"tcp-listen-only", "sockets that only listen"},
		{"tcp-silent", "connections without a byte"},
		{"tcp-writev-readv", "writev, readv"},
		{"tcp-sendmsg-recvmsg", "sendmsg, recvmsg"},
		{"tcp-sendmmsg", "sendmmsg"},
		{"tcp-msg-trunc", "MSG_TRUNC, which throws away"},
		{"tcp-msg-waitall", "MSG_WAITALL"},
		{"tcp-msg-more", "MSG_MORE"},
		{"tcp-urgent", "urgent data, read"},
		{"tcp-urgent-unread", "urgent data, never read"},
		{"tcp-urgent-inline", "urgent data in the stream"},
		{"tcp-reconnected", "one socket connected anew (AF_UNSPEC)"},
		{"tcp-errqueue", "MSG_ERRQUEUE, which is no traffic"},
		{"tcp-fastopen", "fast open by sendto"},
		{"tcp-fastopen-connect", "fast open by connect"},
		{"tcp-sendfile", "sendfile"},
		{"tcp-splice-out", "splice to a socket"},
		{"tcp-splice-in", "splice from a socket"},
		{"tcp-splice-both", "splice at both ends"},
		{"tcp-vmsplice", "vmsplice"},
		{"tcp-zerocopy-send", "MSG_ZEROCOPY"},
		{"tcp-zerocopy-receive-mapped", "TCP_ZEROCOPY_RECEIVE, pages"},
		{"tcp-zerocopy-receive-copied", "TCP_ZEROCOPY_RECEIVE, copied"},
		{"tcp-mixed-receive", "all ways to receive on one socket"},
		{"mptcp4", "MPTCP, IPv4"},
		{"mptcp6", "MPTCP, IPv6"},
		{"mptcp-fallback", "MPTCP with a peer that has none"},
		{"mptcp-sendfile-splice", "MPTCP, sendfile and splice"},
		{"ktls", "TLS in the kernel"},
		{"ktls-sendfile-splice", "TLS in the kernel, sendfile and splice"},
	}
}

func ring() []path {
	return []path{
		{"uring-send-recv", "send, recv"},
		{"uring-worker", "send, recv in a worker thread"},
		{"uring-sqpoll", "SQPOLL: a thread of the kernel sends"},
		{"uring-send-zc", "send_zc"},
		{"uring-recv-multishot", "multishot recv"},
		{"uring-direct", "a socket that only the ring holds"},
		{"uring-udp", "datagrams, with and without a name"},
		{"uring-recv-zc", "zero-copy receive"},
	}
}

func udp() []path {
	return []path{
		{"udp4-connected", "connected, IPv4"},
		{"udp6-connected", "connected, IPv6"},
		{"udp4-loopback", "loopback, IPv4"},
		{"udp6-loopback", "loopback, IPv6"},
		{"udp4-50-peers", "50 peers of one socket, IPv4"},
		{"udp6-50-peers", "50 peers of one socket, IPv6"},
		{"udp-443", "port 443, not QUIC"},
		{"udp-53", "port 53, not DNS"},
		{"udp-nameless-recv", "recv without asking for the address"},
		{"udp-nameless-read", "read"},
		{"udp-nameless-5-peers", "recv without asking for the address, five senders"},
		{"udp-any-address", "bound to any address"},
		{"udp-empty", "empty datagrams"},
		{"udp-peek", "MSG_PEEK"},
		{"udp-sendmmsg-peers", "sendmmsg, recvmmsg, six peers, IPv4"},
		{"udp6-sendmmsg-peers", "sendmmsg, recvmmsg, six peers, IPv6"},
		{"udp-mapped", "IPv4 over an IPv6 socket"},
		{"udp-gso", "GSO: one call, ten datagrams"},
		{"udp-gro", "GRO: several datagrams, one call"},
		{"udp-msg-more", "MSG_MORE"},
		{"udp-cork", "UDP_CORK"},
		{"udp-cork-elsewhere", "connected, and a datagram begun to another peer, IPv4"},
		{"udp6-cork-elsewhere", "connected, and a datagram begun to another peer, IPv6"},
		{"udp-truncated", "too little room"},
		{"udp-msg-trunc", "MSG_TRUNC, which tells the real length"},
		{"udp-errqueue", "MSG_ERRQUEUE"},
		{"udp-multicast4", "multicast, IPv4"},
		{"udp-multicast6", "multicast, IPv6"},
		{"udp-connected-elsewhere", "sendto another peer than the connected one"},
		{"udp-reconnected", "connected anew"},
		{"udp-reconnected-port", "connected anew, from another port"},
		{"udp-port-0", "connects to port 0, as getaddrinfo makes them, are no rows"},
		{"udp-zerocopy", "MSG_ZEROCOPY"},
	}
}

func raw() []path {
	return []path{
		{"icmp-ping", "ping socket, IPv4"},
		{"icmpv6-ping", "ping socket, IPv6"},
		{"icmp-ping-connected", "ping socket, connected"},
		{"icmp-raw", "ICMP over a raw socket"},
		{"icmpv6-raw", "ICMPv6 over a raw socket"},
		{"raw4", "protocol 253, IPv4"},
		{"raw6", "protocol 253, IPv6"},
		{"raw4-header", "with its own header, IPv4"},
		{"raw6-header", "with its own header, IPv6"},
		{"raw4-udp", "UDP over a raw socket, IPv4"},
		{"raw6-udp", "UDP over a raw socket, IPv6"},
		{"raw4-connected", "connected"},
		{"raw4-nameless", "recv without asking for the address"},
		{"sctp4", "SCTP, IPv4"},
		{"sctp6", "SCTP, IPv6"},
		{"sctp4-many", "SCTP, one socket for many"},
	}
}

func packet() []path {
	return []path{
		{"packet-raw", "AF_PACKET, SOCK_RAW"},
		{"packet-dgram", "AF_PACKET, SOCK_DGRAM"},
		{"packet-no-total", "a sniffer's bytes are in no sum of sockets"},
		{"packet-tx-ring", "PACKET_TX_RING"},
		{"packet-rx-ring", "PACKET_RX_RING"},
		{"xdp-bind", "AF_XDP"},
		{"tun-write", "TUN device"},
		{"macvtap-write", "macvtap device"},
		{"vxlan", "VXLAN of the kernel"},
		{"wireguard", "WireGuard of the kernel"},
		{"vsock", "vsock over loopback"},
		{"kernel-nfs", "the kernel's own client (NFS)"},
		{"unix-and-netlink", "unix sockets and netlink are no rows"},
	}
}

func whose() []path {
	return []path{
		{"short-lived", "processes that are gone at once"},
		{"two-users", "the same program of two users"},
		{"arguments", "arguments of every kind"},
		{"twins", "two programs of one name"},
		{"odd-name", "file names that are no text"},
		{"long-name", "very long paths"},
		{"threads", "threads of one process"},
		{"fork", "a socket shared by fork"},
		{"exec", "a socket kept over exec"},
		{"child", "a socket that a child inherits"},
		{"parent-gone", "a parent that is gone"},
		{"socket-passed", "a socket passed on (SCM_RIGHTS)"},
		{"socket-taken", "a socket taken (pidfd_getfd)"},
		{"container", "in a container (bubblewrap)"},
	}
}

func executed() []path {
	return []path{
		{"exe-deleted", "deleted while it runs"},
		{"exe-self-deleted", "deletes itself and ends at once"},
		{"exe-replaced", "replaced while it runs"},
		{"exe-modified", "written to between two runs"},
		{"exe-hard-link", "run by another name of the file"},
		{"exe-symlink", "run by a symbolic link"},
		{"exe-script", "interpreter of a script"},
		{"exe-memfd", "in no file system (memfd)"},
		{"exe-setuid", "with another user's rights"},
		{"exe-disguised", "calls itself by another name and arguments"},
		{"exe-forged", "has /proc/PID/exe show another program"},
		{"exe-pretender", "at a trusted path of a mount namespace of its own"},
		{"exe-pid-namespace", "process 1 of a namespace"},
		{"exe-tmpfs", "on tmpfs"},
		{"exe-overlayfs", "on overlayfs"},
		{"exe-btrfs-subvolume", "on a subvolume of btrfs"},
		{"exe-squashfs", "on squashfs"},
		{"exe-fuse", "on a FUSE file system that only its user reads"},
	}
}

func named() []path {
	return []path{
		{"name-getaddrinfo", "asked of the C library (getaddrinfo)"},
		{"name-container", "asked of a container's own C library"},
		{"name-dns-udp", "DNS over UDP, asked by the program itself"},
		{"name-dns-tcp", "DNS over TCP"},
		{"name-tls", "said in the first packet of TLS"},
		{"name-tls-split", "said in many short segments of TLS"},
		{"name-tls-long", "said at the end of a long first message of TLS"},
		{"name-quic", "said in the first packet of QUIC"},
	}
}

func life() []path {
	return []path{
		{"before-start", "processes and sockets older than the daemon"},
		{"queued-before-start", "connections that wait to be accepted when the daemon starts"},
		{"uncounted-before-start", "rings and devices older than the daemon are told of"},
		{"kill-plugin", "the store is killed under load"},
		{"calls-under-way", "calls that wait while another daemon comes and goes"},
		{"kill-host", "the daemon is killed and started again"},
		{"kill-host-mayfly", "what lives and dies while the daemon is down"},
		{"stop-under-load", "stopped under load"},
		{"flooder", "a flooder beside a quiet sender"},
		{"broken-config", "a broken configuration stops nothing"},
		{"missing-config", "no configuration"},
		{"owner", "files belong to their owner"},
		{"old-database", "a database of 1.0.3 is set aside"},
		{"query", "the query verb"},
		{"second-daemon", "a second daemon is refused"},
		{"no-privileges", "without root it says so"},
	}
}

func volume() []path {
	return []path{
		{"kill-host-under-load", "killed under load, ten seconds' pause"},
		{"100000-flows", "100,000 flows in one window"},
		{"storm", "over 1,000 processes a second"},
		{"exec-storm", "thousands of executions a second, all recorded (`Every exe (not just conns)`)"},
		{"distinct-binaries", "ten thousand programs that end at once, each with its hash"},
	}
}
