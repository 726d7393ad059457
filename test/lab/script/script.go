// Package script is what the lab and its generators say to each other: one JSON object a line, a command down, a reply
// up.
//
// A generator is a puppet: it performs one command after the other and keeps account of what its own calls returned.
// A command may hand the conversation over to another program image (exec) or another process (spawn); that one
// then greets with its own Hello on the same pipe.
package script

// Verbs of a [Command].
const (
	Self     = "self"     // Reply.Process, with the hash
	Facts    = "facts"    // Reply.Facts
	Reset    = "reset"    // forgets sums; flows known until now are marked Before
	Exit     = "exit"     // Reply.Facts, then ends; the end of input does the same
	Socket   = "socket"   // Name, Net
	Bind     = "bind"     // Name, Address
	Listen   = "listen"   // Name
	Accept   = "accept"   // Name, As
	Connect  = "connect"  // Name, Address, Pending
	Detach   = "detach"   // Name: connect(2) to nobody
	Send     = "send"     // Name, Bytes, Times: send(2) on a connected socket
	SendTo   = "sendto"   // Name, Peers, Bytes, Times for each peer
	Receive  = "receive"  // Name, Bytes (streams: until so many), Times (datagrams): recv(2), no address asked
	Read     = "read"     // the same by read(2)
	RecvFrom = "recvfrom" // Name, Times: with the address
	Peek     = "peek"     // Name: one recv with MSG_PEEK
	Close    = "close"    // Name
	Fork     = "fork"     // Name, Bytes, Times: fork(2), parent and child both send; Reply.Child
	Threads  = "threads"  // Name, Threads, Bytes, Times: each thread sends
	Pump     = "pump"     // Name, Bytes, Gap, Peers (optional): sends in the background until Halt
	Drain    = "drain"    // Name: receives in the background until Halt
	Halt     = "halt"     // ends Pump and Drain
	Flood    = "flood"    // Name, Times: one byte to each of so many peers in 127.0.0.0/8
	Exec     = "exec"     // Path, Args: execve(2), sockets stay open
	Spawn    = "spawn"    // Path, Args, Leave: a child that has the sockets takes over; with Leave the parent ends at once
	Set      = "set"      // Name, Option: setsockopt(2); the words are in the generator's options.go
	FastOpen = "fastopen" // Name, Address, Bytes: the first bytes go out with the connect
	ErrQueue = "errqueue" // Name: one recvmsg(2) with MSG_ERRQUEUE; its bytes are in the Reply and in no account
	Mailbox  = "mailbox"  // Path: binds a unix socket, to which another puppet can Give
	Give     = "give"     // Name, Path: passes the socket on (SCM_RIGHTS) and keeps its own
	Take     = "take"     // As, Net: takes what was given
	Grab     = "grab"     // As, Net, Pid, FD: pidfd_getfd(2)
	Fix      = "fix"      // Name: only an io_uring holds the socket from now on (a registered file)
	Chatter  = "chatter"  // Bytes, Times: talks over unix and netlink sockets, which is nobody's network
	Tunnel   = "tunnel"   // Name, Net (of the device): opens a TUN device, with a queue that Inject writes to
	Inject   = "inject"   // Name, Address, Peers, Bytes, Times: write(2) of UDP datagrams from Address on a TUN device
	Tap      = "tap"      // Bytes, Times: write(2) of frames on the machine's only macvtap device
	BindXDP  = "bindxdp"  // Net (of the device): makes and binds an AF_XDP socket
	Storm    = "storm"    // Path, Peers, Threads, Millis: starts a program that connects, sends and ends, over and over
	Disguise = "disguise" // As: takes another name and overwrites its arguments
	Unlink   = "unlink"   // Path
	Forge    = "forge"    // Path: takes another file for its program, as far as /proc shows
	Swallow  = "swallow"  // Name: accepts and reads to the end, in the background until Halt
)

// Ways of Send, SendTo and Receive (Command.How). The empty one is send(2), sendto(2), recv(2).
const (
	Vector    = "vector"    // writev, readv
	Message   = "message"   // sendmsg, recvmsg
	Messages  = "messages"  // sendmmsg, recvmmsg
	Urgent    = "urgent"    // MSG_OOB
	More      = "more"      // MSG_MORE
	Truncate  = "truncate"  // MSG_TRUNC, into a buffer of Room bytes
	WaitAll   = "waitall"   // MSG_WAITALL
	SendFile  = "sendfile"  // a file in memory to the socket
	Splice    = "splice"    // through a pipe
	Vmsplice  = "vmsplice"  // pages into a pipe, and on by splice
	ZeroCopy  = "zerocopy"  // MSG_ZEROCOPY; receiving: TCP_ZEROCOPY_RECEIVE, which maps pages
	CopyBuf   = "copybuf"   // TCP_ZEROCOPY_RECEIVE, which copies
	Ring      = "ring"      // io_uring
	RingZC    = "ring-zc"   // io_uring, send_zc
	RingPoll  = "ring-poll" // io_uring, SQPOLL: a thread of the kernel sends
	RingAsync = "ring-wq"   // io_uring, made to use a worker
	RingShots = "ring-multishot"
	Frames    = "frames" // PACKET_TX_RING, PACKET_RX_RING
)

// Command is one thing to do. Fields that a verb does not name are ignored.
type Command struct {
	Do      string   `json:"do"`
	Name    string   `json:"name,omitempty"` // of the socket
	As      string   `json:"as,omitempty"`   // name of the accepted socket
	Net     string   `json:"net,omitempty"`  // tcp4 tcp6 udp4 udp6, and what the generator's network.go lists
	Address string   `json:"address,omitempty"`
	Peers   []string `json:"peers,omitempty"`
	Bytes   int      `json:"bytes,omitempty"` // of one call
	Times   int      `json:"times,omitempty"` // calls; 0 is 1
	Gap     int      `json:"gap,omitempty"`   // microseconds between two calls
	Threads int      `json:"threads,omitempty"`
	How     string   `json:"how,omitempty"`    // way to send or receive
	Option  string   `json:"option,omitempty"` // word, or word=value
	Room    int      `json:"room,omitempty"`   // of the buffer to receive into; 0 is plenty
	Pid     int      `json:"pid,omitempty"`
	FD      int      `json:"fd,omitempty"`
	Millis  int      `json:"millis,omitempty"`
	Pending bool     `json:"pending,omitempty"` // do not wait for the answer to a connect
	Leave   bool     `json:"leave,omitempty"`
	Path    string   `json:"path,omitempty"`
	Args    []string `json:"args,omitempty"` // including argument 0
}

// Reply answers one command; a Reply with Hello set is the greeting of a program that has just started.
type Reply struct {
	Hello   bool     `json:"hello,omitempty"`
	Process *Process `json:"process,omitempty"`
	Facts   *Account `json:"facts,omitempty"`
	Child   *Account `json:"child,omitempty"`
	Local   string   `json:"local,omitempty"`  // of the socket, after the command
	Remote  string   `json:"remote,omitempty"` // likewise
	Bytes   uint64   `json:"bytes,omitempty"`  // that the calls returned
	Calls   uint64   `json:"calls,omitempty"`
	Mapped  uint64   `json:"mapped,omitempty"` // bytes of Bytes that came as pages
	FD      int      `json:"fd,omitempty"`     // of the socket
	Errno   string   `json:"errno,omitempty"`  // name of a system call's error, as ECONNREFUSED
	Error   string   `json:"error,omitempty"`  // any other: the script is wrong
}

// Process is a generator as it sees itself.
type Process struct {
	Pid    int      `json:"pid"`
	Parent int      `json:"parent"`
	UID    int      `json:"uid"`
	Args   [][]byte `json:"args"` // bytes: not every argument is UTF-8
	Exe    []byte   `json:"exe"`
	Name   []byte   `json:"name"` // comm of the main thread
	SHA256 string   `json:"sha256,omitempty"`
	Netns  uint64   `json:"netns"` // inode
}

// Account is what one process did on the network.
type Account struct {
	Process Process `json:"process"`
	Flows   []Flow  `json:"flows"`
}

// Flow is the sum over one protocol, local and remote address.
type Flow struct {
	Protocol int    `json:"protocol"`         // IPPROTO_*
	Local    string `json:"local"`            // ip:port; IPv4-mapped addresses are unmapped
	Remote   string `json:"remote,omitempty"` // empty: no peer, or not known to the caller
	Sent     uint64 `json:"sent,omitempty"`
	Received uint64 `json:"received,omitempty"`
	Sends    uint64 `json:"sends,omitempty"`    // calls that returned more than 0
	Receives uint64 `json:"receives,omitempty"` // likewise
	Empty    uint64 `json:"empty,omitempty"`    // calls that returned 0: empty datagrams, the end of a stream
	Connects uint64 `json:"connects,omitempty"`
	Accepts  uint64 `json:"accepts,omitempty"`
	Failures uint64 `json:"failures,omitempty"`
	Listens  uint64 `json:"listens,omitempty"`
	// Before tells that the flow existed when the account was reset, so that it may or may not have a row of its own.
	Before bool `json:"before,omitempty"`
	// Loose tells that the kernel may count the calls in another way than the process: only bytes are facts.
	Loose bool `json:"loose,omitempty"`
	// Packet tells that the socket was one of AF_PACKET.
	Packet bool `json:"packet,omitempty"`
	// Folded tells that the flow stands for many peers (Flood).
	Folded bool `json:"folded,omitempty"`
}
