package capture

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// converter turns the kernel's structs into events.
type converter struct {
	secret   []byte
	texts    *ebpf.Map
	counting wire.Counting
	symbols  *symbols

	mu          sync.Mutex
	superblocks map[uint64]uint64 // by address; bounded by superblockLimit
}

const superblockLimit = 4096

func newConverter(secret []byte, o *objects) *converter {
	return &converter{
		secret: secret, superblocks: map[uint64]uint64{}, texts: o.maps[kernelMapLongTexts], counting: o.counting(),
		symbols: newSymbols("/proc/kallsyms"),
	}
}

func keyOf(k kernelProcessKey) Key {
	return Key{Tgid: k.Tgid, ExecID: k.ExecId, Start: int64(k.Start)}
}

// superblock names a mounted file system instance without telling its address.
func (c *converter) superblock(address uint64) uint64 {
	if address == 0 {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if name, known := c.superblocks[address]; known {
		return name
	}
	if len(c.superblocks) >= superblockLimit {
		clear(c.superblocks)
	}
	sum := sha256.Sum256(binary.LittleEndian.AppendUint64(append([]byte(nil), c.secret...), address))
	name := binary.LittleEndian.Uint64(sum[:])
	c.superblocks[address] = name
	return name
}

// device turns the kernel's internal device number (20 bits of minor) into the one that user space knows.
func device(kernel uint32) uint64 { return unix.Mkdev(kernel>>20, kernel&0xfffff) }

func text(raw []uint8) Bytes {
	if end := bytes.IndexByte(raw, 0); end >= 0 {
		raw = raw[:end]
	}
	return Bytes(raw)
}

func (c *converter) process(key kernelProcessKey, p *kernelProcess) (*Process, error) {
	e := &Process{
		Key: keyOf(key), Parent: keyOf(p.Parent), Attribution: wire.Attribution_ATTRIBUTION_KERNEL,
		Forked: p.Flags&uint32(kernelProcessFlagPROCESS_FORKED) != 0, Began: int64(p.Began), InnerPid: p.InnerPid,
		Kernel: p.Flags&uint32(kernelProcessFlagPROCESS_THREAD) != 0,
		Name:   text(p.Name[:]), Tty: string(text(p.Tty[:])),
		File: FileKey{Superblock: c.superblock(p.Superblock), Device: device(p.Device), Inode: p.Inode, Ctime: p.Ctime, Size: p.Size},
		UID:  p.Uid, EUID: p.Euid, GID: p.Gid, LoginUID: p.Loginuid, Session: p.Session,
		CgroupID: p.Cgroup, PidNS: p.PidNs, MountNS: p.MountNs, PathNS: p.PathNs, NetNS: p.NetNs, Exited: int64(p.Exited),
	}
	if p.Flags&uint32(kernelProcessFlagPROCESS_EXISTING) != 0 {
		e.Attribution = wire.Attribution_ATTRIBUTION_ITERATOR
	}
	path, arguments := p.Path[:], p.Arguments[:]
	if p.Flags&uint32(kernelProcessFlagPROCESS_LONG) != 0 {
		var long kernelTexts
		switch err := c.texts.Lookup(key, &long); {
		case err == nil && p.PathKept > uint32(len(path)):
			path, arguments = long.Path[:], long.Arguments[:]
		case err == nil:
			arguments = long.Arguments[:]
		case !errors.Is(err, ebpf.ErrKeyNotExist):
			return nil, fmt.Errorf("read command line of process %d: %w", key.Tgid, err)
		}
		if p.ArgumentsLength <= uint32(len(p.Arguments)) {
			arguments = p.Arguments[:]
		}
	}
	e.Path = Text{Value: Bytes(path[:min(int(p.PathKept), len(path))]), Length: int(p.PathLength)}
	e.Arguments = Text{Value: Bytes(arguments[:min(int(p.ArgumentsLength), len(arguments))]), Length: int(p.ArgumentsLength)}
	if e.Arguments.Length == len(e.Arguments.Value) { // the last argument's own NUL separates it from nothing
		e.Arguments.Value = Bytes(strings.TrimSuffix(string(e.Arguments.Value), "\x00"))
		e.Arguments.Length = len(e.Arguments.Value)
	}
	e.Script = Text{Value: text(p.Script[:]), Length: int(p.ScriptLength)}
	return e, nil
}

// endpoint gives an address as people know it: IPv4 where it is IPv4, and a link-local one with the interface that the
// socket is bound to, by number.
func endpoint(raw [16]uint8, port uint16, ifindex uint32) netip.AddrPort {
	address := netip.AddrFrom16(raw).Unmap()
	if ifindex != 0 && address.Is6() && (address.IsLinkLocalUnicast() || address.IsLinkLocalMulticast()) {
		address = address.WithZone(strconv.FormatUint(uint64(ifindex), 10))
	}
	return netip.AddrPortFrom(address, port)
}

// socketPeer tells which candidates belong to which flow.
type socketPeer struct {
	process kernelProcessKey
	socket  uint64
}

// flows reads a drained pair of maps.
func (c *converter) flows(flows, owners *ebpf.Map) ([]Flow, error) {
	var out []Flow
	candidates := map[socketPeer][]netip.AddrPort{}
	err := readMap(flows, func(key *kernelFlowKey, f *kernelFlow) {
		if kernelPeerKind(key.PeerKind) == kernelPeerKindPEER_CANDIDATE {
			at := socketPeer{key.Process, key.Socket}
			candidates[at] = append(candidates[at], endpoint(key.Peer, key.PeerPort, f.Ifindex))
			return
		}
		out = append(out, c.flow(key, f))
	})
	if err != nil {
		return nil, err
	}
	for i := range out {
		f := &out[i]
		if f.Peer == wire.Peer_PEER_INFERRED {
			process := kernelProcessKey{Start: uint64(f.Process.Start), Tgid: f.Process.Tgid, ExecId: f.Process.ExecID}
			f.Candidates = candidates[socketPeer{process, f.Socket}]
		}
	}
	err = readMap(owners, func(key *kernelProcessKey, o *kernelOwner) {
		if o.Sends+o.Receives > 0 {
			out = append(out, c.folded(key, o))
		}
	})
	return out, err
}

func internet(family uint16) bool { return family == unix.AF_INET || family == unix.AF_INET6 }

// layer tells where a socket of a family counts. What AF_PACKET moves has been, or will be, counted at the socket that it
// was meant for.
func layer(family uint16) wire.Layer {
	if family == unix.AF_PACKET {
		return wire.Layer_LAYER_PACKET
	}
	return wire.Layer_LAYER_SOCKET
}

func (c *converter) flow(key *kernelFlowKey, f *kernelFlow) Flow {
	v4 := netip.AddrFrom16(key.Peer).Is4In6() || netip.AddrFrom16(f.Local).Is4In6()
	out := Flow{
		Process: keyOf(key.Process), Socket: key.Socket, Layer: layer(key.Family),
		Family: key.Family, Protocol: f.Protocol, Mapped: v4 && key.Family == unix.AF_INET6,
		Sent: f.Sent, Received: f.Received, Sends: f.Sends, Receives: f.Receives,
		Connects: uint64(f.Connects), Accepts: uint64(f.Accepts), Failures: uint64(f.Failures), Listens: uint64(f.Listens),
		Direction: wire.Direction(f.Direction), Result: wire.Result(f.Result),
		NetNS: f.Netns, Ifindex: f.Ifindex,
		Existing:    f.Flags&uint8(kernelFlowFlagFLOW_EXISTING) != 0,
		Kernel:      f.Flags&uint8(kernelFlowFlagFLOW_KERNEL) != 0,
		Raw:         f.Flags&uint8(kernelFlowFlagFLOW_RAW) != 0,
		Attribution: wire.Attribution_ATTRIBUTION_KERNEL, Counting: c.counting,
		Name: text(f.Name[:]), UID: f.Uid, CgroupID: f.Cgroup,
		File: FileKey{Superblock: c.superblock(f.Superblock), Device: device(f.Device), Inode: f.Inode},
	}
	if out.Kernel {
		out.Name, out.File = Bytes(c.symbols.name(f.Inode)), FileKey{}
	}
	if f.Flags&uint8(kernelFlowFlagFLOW_TUNNEL) != 0 {
		out.Layer, out.Socket, out.Name = wire.Layer_LAYER_TUNNEL, 0, tunnel(f.Protocol, key.PeerPort)
	}
	if internet(key.Family) {
		out.Local = endpoint(f.Local, f.LocalPort, f.Ifindex)
	}
	if f.Flags&uint8(kernelFlowFlagFLOW_ESTIMATE) != 0 {
		out.Counting = wire.Counting_COUNTING_ESTIMATE
	}
	switch {
	case out.Existing && out.Sends+out.Receives == 0:
		out.Attribution = wire.Attribution_ATTRIBUTION_ITERATOR
	case f.Flags&uint8(kernelFlowFlagFLOW_LISTENER) != 0 && out.Sends+out.Receives == 0:
		out.Attribution = wire.Attribution_ATTRIBUTION_LISTENER
	}
	switch kernelPeerKind(key.PeerKind) {
	case kernelPeerKindPEER_EXACT:
		out.Peer = wire.Peer_PEER_EXACT
		out.Remote = endpoint(key.Peer, key.PeerPort, f.Ifindex)
	case kernelPeerKindPEER_INFERRED:
		out.Peer = wire.Peer_PEER_INFERRED
	case kernelPeerKindPEER_NONE:
		out.Peer = wire.Peer_PEER_NONE
	}
	return out
}

// tunnel names what carries packets in packets, by its protocol and the port that it is known by.
func tunnel(protocol, port uint16) Bytes {
	switch protocol {
	case unix.IPPROTO_GRE:
		return "gre"
	case unix.IPPROTO_IPIP:
		return "ipip"
	case unix.IPPROTO_IPV6:
		return "sit"
	case unix.IPPROTO_ESP:
		return "esp"
	}
	switch port {
	case 4789, 8472:
		return "vxlan"
	case 6081:
		return "geneve"
	case 51820:
		return "wireguard"
	case 4500:
		return "esp"
	}
	return "udp tunnel"
}

// folded is what a process, or a user whose processes are beyond their share, moved without a flow of its own.
func (c *converter) folded(key *kernelProcessKey, o *kernelOwner) Flow {
	out := Flow{
		Process: keyOf(*key), Layer: wire.Layer_LAYER_SOCKET, Protocol: uint16(o.Protocol),
		Peer: wire.Peer_PEER_FOLDED, FoldedPeers: o.Folded,
		Sent: o.Sent, Received: o.Received, Sends: o.Sends, Receives: o.Receives, NetNS: o.Netns,
		Attribution: wire.Attribution_ATTRIBUTION_KERNEL, Counting: c.counting,
		Name: text(o.Name[:]), UID: o.Uid, CgroupID: o.Cgroup,
		File: FileKey{Superblock: c.superblock(o.Superblock), Device: device(o.Device), Inode: o.Inode},
	}
	if o.Protocol > 0xffff {
		out.Protocol = 0
	}
	if key.ExecId == ownerUser {
		out.Process = Key{}
		out.Name, out.File = "", FileKey{}
	}
	return out
}

// ownerUser is OWNER_USER of event.h.
const ownerUser = 0xffffffff
