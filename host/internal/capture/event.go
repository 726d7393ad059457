package capture

import (
	"context"
	"net/netip"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// Source gives what the kernel saw, in order. [Kernel] and [Replay] implement it.
//
// The order is a promise: the Process of every Flow in a Window comes before the Window, or the kernel side does not know
// it. A Window must be released before the next one is drained: until then the kernel keeps its sums, so that a host
// that dies in between finds them again.
//
// # Concurrency
//
// Next is called from one goroutine; the other methods may be called from any.
type Source interface {
	// Next blocks until there is an event. It returns ctx.Err() when ctx ends and io.EOF after Close or at the end
	// of a recording.
	Next(ctx context.Context) (Event, error)
	// Release tells that the window of this generation is safely journaled; the kernel side forgets it.
	Release(generation uint64) error
	// Forget tells that these process instances have ended and nobody asks for them any more.
	Forget(keys []Key) error
	// Close stops counting, without losing what was counted: windows that are left come out of Next before io.EOF.
	Close() error
}

// Event is one of *Process, *Exit, *Payload, *Lookup, *Uncounted, *Window.
type Event interface{ event() }

// Key names a process instance: one program image run by one process of this boot (wire.ProcessId without the boot id).
type Key struct {
	Tgid   uint32 `json:"tgid"`    // in the initial pid namespace; 0 is the kernel itself
	ExecID uint32 `json:"exec_id"` // counts executions, inherited by fork
	Start  int64  `json:"start"`   // start_boottime of the group leader, ns
}

// FileKey is a file as the kernel sees it. Its device is super_block.s_dev, which stat does not show on btrfs and overlayfs.
type FileKey struct {
	Superblock uint64 `json:"superblock"`
	Device     uint64 `json:"device"` // as unix.Mkdev of major and minor
	Inode      uint64 `json:"inode"`
	Ctime      int64  `json:"ctime"` // ns
	Size       uint64 `json:"size"`
}

// Text is bytes that a process chose, bounded. Length is that of the whole.
type Text struct {
	Value  Bytes `json:"value,omitempty"`
	Length int   `json:"length,omitempty"`
}

// Bytes is raw bytes in a string; in JSON it is escaped as sdk.Escape does.
type Bytes string

// MarshalText implements encoding.TextMarshaler.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(sdk.EscapeString(string(b))), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (b *Bytes) UnmarshalText(text []byte) error {
	raw, err := sdk.Unescape(string(text))
	*b = Bytes(raw)
	return err
}

// Process is a process instance at its begin: by exec, by fork, or found by an iterator when the host started.
type Process struct {
	Key         Key              `json:"key"`
	Parent      Key              `json:"parent"` // zero when not known
	Attribution wire.Attribution `json:"attribution"`
	Forked      bool             `json:"forked,omitempty"` // shares the program image with Parent
	Kernel      bool             `json:"kernel,omitempty"` // a thread of the kernel
	Began       int64            `json:"began"`            // boot ns of the exec, else of the fork
	InnerPid    uint32           `json:"inner_pid"`
	Name        Bytes            `json:"name"`
	Path        Text             `json:"path"`            // in the mount namespace PathNS
	Arguments   Text             `json:"arguments"`       // separated by NUL, as executed
	Script      Text             `json:"script,omitzero"` // when the program is its interpreter: as exec was given it, with its directory; at most 255 bytes
	File        FileKey          `json:"file"`
	UID         uint32           `json:"uid"` // real
	EUID        uint32           `json:"euid"`
	GID         uint32           `json:"gid"` // real
	LoginUID    uint32           `json:"login_uid"`
	Session     uint32           `json:"session"`
	Tty         string           `json:"tty,omitempty"`
	CgroupID    uint64           `json:"cgroup_id"`
	PidNS       uint32           `json:"pid_ns"`
	MountNS     uint32           `json:"mount_ns"`
	PathNS      uint32           `json:"path_ns,omitempty"` // mount namespace that Path is of, or PathUnmounted; 0: MountNS
	NetNS       uint32           `json:"net_ns"`
	Exited      int64            `json:"exited,omitempty"` // boot ns, if it has already ended
}

// PathUnmounted is the PathNS of a file whose file system is mounted nowhere: its path means nothing to anybody.
const PathUnmounted = 1

// Exit is the end of a process instance, by exit of its last thread or by exec of another image.
type Exit struct {
	Key  Key   `json:"key"`
	Time int64 `json:"time"` // boot ns
}

// Payload is bytes on the wire that may name an address: an answer from port 53, or the first bytes of TLS or QUIC.
type Payload struct {
	Process  Key            `json:"process"` // that asked, connected or sends
	Socket   uint64         `json:"socket"`
	NetNS    uint32         `json:"net_ns"`
	UID      uint32         `json:"uid"`
	Protocol uint32         `json:"protocol"`
	Remote   netip.AddrPort `json:"remote"`
	Received bool           `json:"received"`
	Time     int64          `json:"time"`   // boot ns
	Offset   uint64         `json:"offset"` // of Data in its stream (TCP)
	Data     []byte         `json:"data"`   // at most 2048
}

// Lookup is what getaddrinfo told a process.
type Lookup struct {
	Process   Key          `json:"process"`
	NetNS     uint32       `json:"net_ns"`
	UID       uint32       `json:"uid"`
	Time      int64        `json:"time"` // boot ns
	Host      Bytes        `json:"host"`
	Addresses []netip.Addr `json:"addresses"`
}

// Uncounted tells that a process uses a way onto the network whose bytes no call returns.
type Uncounted struct {
	Process Key    `json:"process"`
	Way     string `json:"way"`  // "AF_XDP socket", "mapped packet ring", "TUN device", "macvtap device"
	Time    int64  `json:"time"` // boot ns
}

// Moment is one instant on the two clocks that matter.
type Moment struct {
	UTC  int64 `json:"utc"`  // ns since 1970
	Boot int64 `json:"boot"` // ns, CLOCK_BOOTTIME
}

// Window is everything that was counted in one generation of the kernel's maps.
type Window struct {
	Generation uint64 `json:"generation"`
	Start      Moment `json:"start"`
	End        Moment `json:"end"`
	Flows      []Flow `json:"flows"`
	Losses     []Loss `json:"losses,omitempty"` // since the window before
	// Position is to be journaled with the window's records and given back to Open.
	Position Position `json:"position"`
}

// Loss counts what one map, buffer or program lost.
type Loss struct {
	Cause    string `json:"cause"` // "flow map full", "exec ring full", …
	Events   uint64 `json:"events"`
	Sent     uint64 `json:"sent,omitempty"`
	Received uint64 `json:"received,omitempty"`
	// Exact tells that the bytes are still in this window, in a row without a peer: nothing is missing from sums.
	Exact bool `json:"exact,omitempty"`
}

// Flow is the sum of one process instance, one socket and one peer. Bytes are what its calls returned.
type Flow struct {
	Process     Key              `json:"process"`
	Socket      uint64           `json:"socket"` // cookie
	Layer       wire.Layer       `json:"layer"`
	Family      uint16           `json:"family"` // of the socket
	Protocol    uint16           `json:"protocol"`
	Local       netip.AddrPort   `json:"local"`  // invalid when none; IPv4-mapped addresses are unmapped
	Remote      netip.AddrPort   `json:"remote"` // likewise
	Mapped      bool             `json:"mapped,omitempty"`
	Peer        wire.Peer        `json:"peer"`
	Candidates  []netip.AddrPort `json:"candidates,omitempty"`
	FoldedPeers uint64           `json:"folded_peers,omitempty"`
	Sent        uint64           `json:"sent"`
	Received    uint64           `json:"received"`
	Sends       uint64           `json:"sends"`
	Receives    uint64           `json:"receives"`
	Connects    uint64           `json:"connects,omitempty"`
	Accepts     uint64           `json:"accepts,omitempty"`
	Failures    uint64           `json:"failures,omitempty"`
	Listens     uint64           `json:"listens,omitempty"`
	Direction   wire.Direction   `json:"direction"`
	Result      wire.Result      `json:"result"`
	NetNS       uint32           `json:"net_ns"`
	Ifindex     uint32           `json:"ifindex,omitempty"`
	Existing    bool             `json:"existing,omitempty"`
	Raw         bool             `json:"raw,omitempty"`    // the socket is a raw one, which has no ports, whatever its protocol
	Kernel      bool             `json:"kernel,omitempty"` // the socket belongs to the kernel, not to a process
	Attribution wire.Attribution `json:"attribution"`
	Counting    wire.Counting    `json:"counting"`
	// What the flow itself knows of its process, in case the Process was lost.
	Name     Bytes   `json:"name"`
	UID      uint32  `json:"uid"`
	File     FileKey `json:"file"` // Superblock, Device, Inode only
	CgroupID uint64  `json:"cgroup_id"`
}

func (*Process) event()   {}
func (*Exit) event()      {}
func (*Payload) event()   {}
func (*Lookup) event()    {}
func (*Uncounted) event() {}
func (*Window) event()    {}
