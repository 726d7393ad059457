package lab

// pending are the cases that the daemon does not pass yet, each with what it does instead. LAB_PENDING=1 runs them.
func pending() map[string]string {
	const subflows = "the TCP subflows of an MPTCP socket have rows beside it, and its own connect one without addresses"
	const states = "bytes are exact; connects and accepts of SCTP are not seen"
	return map[string]string{
		"mptcp4":               subflows,
		"mptcp6":               subflows,
		"mptcp-fallback":       subflows,
		"sctp4":                states,
		"sctp6":                states,
		"sctp4-many":           "bytes are exact; the rows of a one-to-many socket show 0.0.0.0 instead of each peer",
		"ktls-sendfile-splice": "nothing is counted of what is spliced out of a kTLS socket (seen on 6.12)",
	}
}
