package lab

import (
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/sdk"
	"github.com/picosnitch/picosnitch/test/lab/script"
)

// Identity is a program as four columns of a row show it.
type Identity struct {
	Exe, SHA256, Name, Cmdline string
}

// Key is what a row is told apart by. Two rows with the same Key (of two windows) are summed before comparing.
type Key struct {
	Process, Parent Identity
	Pid             int
	UID             int
	Netns           uint64
	Protocol        string // tcp, udp, or "protocol 1"
	Packet          bool   // counted at AF_PACKET: such rows are in no total
	Laddr           string
	Lport           int
	Raddr           string // empty without a peer
	Rport           int    // -1 without a peer
}

// Sums is what is added up over rows.
type Sums struct {
	Sent, Received, Sends, Receives, Connects, Accepts, Failures, Listens uint64
}

func (s Sums) add(o Sums) Sums {
	return Sums{
		s.Sent + o.Sent, s.Received + o.Received, s.Sends + o.Sends, s.Receives + o.Receives,
		s.Connects + o.Connects, s.Accepts + o.Accepts, s.Failures + o.Failures, s.Listens + o.Listens,
	}
}

// Expectation is one Key with its sums. The zero values of the other fields ask for exactly that.
type Expectation struct {
	Key  Key
	Sums Sums
	// Empty calls moved no byte (empty datagrams, the end of a stream); whether they count as calls is left open.
	Empty uint64
	// Optional rows may be absent. Of a flow older than the daemon, connects and the like are not compared.
	Optional bool
	// AnyPeer lets the bytes stand in several rows, with or without a peer: only their sum is compared.
	AnyPeer bool
	// Folded lets the bytes of a process beyond its share stand in any rows of it, and in rows of its namespace that
	// name no process (a user beyond his share): only their sum is compared.
	Folded bool
	// AnyCalls leaves the numbers of sends and receives open: only bytes are compared.
	AnyCalls bool
	// AnyStates leaves connects, accepts, failures and listens open; AnyBytes the bytes and calls.
	AnyStates, AnyBytes bool
	// AnyAddress accepts rows of the process whatever addresses they show: those of families that are not IP.
	AnyAddress bool
	// AtLeast turns the sums into lower bounds (traffic that was still going on).
	AtLeast bool
	// Grandparent, Direction and Result are compared when they are set.
	Grandparent       *Identity
	Direction, Result string
}

// expect turns an account into expectations. Flows in which nothing happened ask for nothing.
func expect(a *script.Account, process, parent Identity) ([]Expectation, error) {
	var out []Expectation
	for _, f := range a.Flows {
		key := Key{Process: process, Parent: parent, Pid: a.Process.Pid, UID: a.Process.UID, Netns: a.Process.Netns}
		if err := key.setFlow(f); err != nil {
			return nil, err
		}
		e := Expectation{
			Key: key, Empty: f.Empty, Folded: f.Folded, AnyCalls: f.Loose,
			Sums: Sums{f.Sent, f.Received, f.Sends, f.Receives, f.Connects, f.Accepts, f.Failures, f.Listens},
		}
		e.Optional = e.Sums == Sums{} || f.Before && f.Sent+f.Received == 0
		out = append(out, e)
	}
	return out, nil
}

func (k *Key) setFlow(f script.Flow) error {
	if f.Packet { // a frame has no end with a port; the rest of the row is not this lab's subject
		k.Packet, k.Lport, k.Rport = true, -1, -1
		return nil
	}
	k.Protocol = protocolWord(f.Protocol)
	local, err := netip.ParseAddrPort(f.Local)
	if err != nil {
		return fmt.Errorf("local address of a generator: %w", err)
	}
	k.Laddr, k.Lport = local.Addr().String(), port(local)
	k.Raddr, k.Rport = "", -1
	if f.Remote == "" {
		return nil
	}
	remote, err := netip.ParseAddrPort(f.Remote)
	if err != nil {
		return fmt.Errorf("remote address of a generator: %w", err)
	}
	k.Raddr, k.Rport = remote.Addr().String(), port(remote)
	return nil
}

// port is -1 where a generator gives none: its protocol has no ports.
func port(a netip.AddrPort) int {
	if a.Port() == 0 {
		return -1
	}
	return int(a.Port())
}

// mptcp is the word for it: the sockets of applications have a protocol of their own, above the TCP of each path.
const mptcp = "protocol 262"

func protocolWord(number int) string {
	switch number {
	case unix.IPPROTO_TCP:
		return "tcp"
	case unix.IPPROTO_UDP:
		return "udp"
	}
	return fmt.Sprint("protocol ", number)
}

// commandLine is the column cmdline for these arguments: quoted as Python's shlex.join does, then escaped.
func commandLine[T string | []byte](args []T) string {
	quoted := make([]string, len(args))
	for i, a := range args {
		quoted[i] = quote(string(a))
	}
	return sdk.EscapeString(strings.Join(quoted, " "))
}

func quote(arg string) string {
	if arg == "" {
		return "''"
	}
	safe := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_@%+=:,./-", r)
	}
	if strings.IndexFunc(arg, func(r rune) bool { return !safe(r) }) < 0 {
		return arg
	}
	return "'" + strings.ReplaceAll(arg, "'", `'"'"'`) + "'"
}
