package peers

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// key is an address and a port as the programs compare them: 16 bytes of address, an IPv4 one mapped into IPv6, and the
// port in network order, then two bytes of zero.
type key [20]byte

// Where the fields lie that the programs read (linux/bpf.h, stable).
const (
	addrIP4   = 4  // struct bpf_sock_addr
	addrIP6   = 8  // four words
	addrPort  = 24 // in network order
	sockType  = 8  // struct bpf_sock
	sockProto = 12
	sockState = 72
	skbSock   = 168 // struct __sk_buff
)

// Values of other kernel headers.
const (
	mapped    = -65536 // 0xffff0000: the bytes 00 00 ff ff, in the order of the machines that we build for
	stream    = 1      // SOCK_STREAM
	datagram  = 2      // SOCK_DGRAM
	protoTCP  = 6
	protoUDP  = 17
	tcpListen = 10 // TCP_LISTEN
)

// hook is one program and where it belongs.
type hook struct {
	kind   ebpf.ProgramType
	attach ebpf.AttachType
	code   asm.Instructions
}

// hooks are the programs over the map of allowed keys. Each returns 1 to allow and 0 to refuse, with EPERM.
func hooks(allowed *ebpf.Map) []hook {
	address := func(at ebpf.AttachType, v6 bool) hook {
		return hook{ebpf.CGroupSockAddr, at, lookUp(allowed, v6)}
	}
	return []hook{
		{ebpf.CGroupSock, ebpf.AttachCGroupInetSockCreate, create()},
		address(ebpf.AttachCGroupInet4Connect, false),
		address(ebpf.AttachCGroupInet6Connect, true),
		address(ebpf.AttachCGroupUDP4Sendmsg, false),
		address(ebpf.AttachCGroupUDP6Sendmsg, true),
		{ebpf.CGroupSockAddr, ebpf.AttachCGroupInet4Bind, bind()},
		{ebpf.CGroupSockAddr, ebpf.AttachCGroupInet6Bind, bind()},
		{ebpf.CGroupSKB, ebpf.AttachCGroupInetIngress, ingress()},
	}
}

// answer ends a program with 1 at label "yes" and 0 at label "no".
func answer() asm.Instructions {
	return asm.Instructions{
		asm.Mov.Imm(asm.R0, 1).WithSymbol("yes"),
		asm.Return(),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("no"),
		asm.Return(),
	}
}

// lookUp allows an address that is in the map.
func lookUp(allowed *ebpf.Map, v6 bool) asm.Instructions {
	code := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.StoreImm(asm.RFP, -24, 0, asm.Word),
		asm.StoreImm(asm.RFP, -20, 0, asm.Word),
		asm.StoreImm(asm.RFP, -16, mapped, asm.Word),
		asm.LoadMem(asm.R1, asm.R6, addrIP4, asm.Word),
		asm.StoreMem(asm.RFP, -12, asm.R1, asm.Word),
	}
	if v6 {
		code = asm.Instructions{asm.Mov.Reg(asm.R6, asm.R1)}
		for word := range int16(4) {
			code = append(code,
				asm.LoadMem(asm.R1, asm.R6, addrIP6+4*word, asm.Word),
				asm.StoreMem(asm.RFP, -24+4*word, asm.R1, asm.Word))
		}
	}
	code = append(code,
		asm.LoadMem(asm.R1, asm.R6, addrPort, asm.Word),
		asm.StoreMem(asm.RFP, -8, asm.R1, asm.Word),
		asm.LoadMapPtr(asm.R1, allowed.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -24),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "no"),
	)
	return append(code, answer()...)
}

// create allows TCP and UDP: other protocols have no hook that sees whom they talk to.
func create() asm.Instructions {
	return append(asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, sockType, asm.Word),
		asm.LoadMem(asm.R3, asm.R1, sockProto, asm.Word),
		asm.JEq.Imm(asm.R2, datagram, "datagram"),
		asm.JNE.Imm(asm.R2, stream, "no"),
		asm.JNE.Imm(asm.R3, protoTCP, "no"),
		asm.Ja.Label("yes"),
		asm.JNE.Imm(asm.R3, protoUDP, "no").WithSymbol("datagram"),
	}, answer()...)
}

// bind allows no port but the one that the kernel chooses.
func bind() asm.Instructions {
	return append(asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, addrPort, asm.Word),
		asm.JNE.Imm(asm.R2, 0, "no"),
	}, answer()...)
}

// ingress drops what arrives at a listening socket: listening needs no bind.
func ingress() asm.Instructions {
	return append(asm.Instructions{
		asm.LoadMem(asm.R1, asm.R1, skbSock, asm.DWord),
		asm.JEq.Imm(asm.R1, 0, "yes"),
		asm.FnSkFullsock.Call(),
		asm.JEq.Imm(asm.R0, 0, "yes"),
		asm.LoadMem(asm.R1, asm.R0, sockState, asm.Word),
		asm.JEq.Imm(asm.R1, tcpListen, "no"),
	}, answer()...)
}
