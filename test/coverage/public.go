package main

// scenario is one of the public comparison, and the cases of the lab that show it.
type scenario struct {
	words string
	cases []string
}

// public are the 24 scenarios of the benchmark that the Python picosnitch publishes.
func public() []scenario {
	return []scenario{
		{"TCP, sent", []string{"tcp4", "tcp-bulk"}},
		{"TCP, received", []string{"tcp4", "tcp-read-and-peek"}},
		{"TCP over IPv6", []string{"tcp6"}},
		{"UDP, sent", []string{"udp4-connected", "udp4-50-peers"}},
		{"UDP, received", []string{"udp4-connected", "udp-any-address"}},
		{"UDP over IPv6", []string{"udp6-connected", "udp6-50-peers"}},
		{"ICMP", []string{"icmp-ping", "icmp-raw"}},
		{"UDP to port 443", []string{"udp-443"}},
		{"SCTP", []string{"sctp4"}},
		{"small datagrams to UDP port 53", []string{"udp-53"}},
		{"raw protocol 253", []string{"raw4"}},
		{"short-lived processes", []string{"short-lived"}},
		{"AF_PACKET", []string{"packet-raw", "packet-dgram"}},
		{"io_uring, sent", []string{"uring-send-recv", "uring-send-zc"}},
		{"io_uring, received", []string{"uring-send-recv", "uring-recv-multishot"}},
		{"sendfile", []string{"tcp-sendfile"}},
		{"sendmmsg", []string{"tcp-sendmmsg", "udp-sendmmsg-peers"}},
		{"recvmmsg", []string{"udp-sendmmsg-peers"}},
		{"loopback", []string{"tcp4-loopback", "udp4-loopback"}},
		{"in a container", []string{"container"}},
		{"a slow drip", []string{"tcp-drip"}},
		{"many small connections", []string{"tcp-many-connections"}},
		{"a parallel burst", []string{"tcp-parallel-burst"}},
		{"splice", []string{"tcp-splice-in", "tcp-splice-out"}},
	}
}
