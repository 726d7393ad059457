package capture

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
)

// ErrNoTypes tells that the kernel does not describe its own types (BTF), which the programs are fitted to.
var ErrNoTypes = errors.New("the kernel has no type information (CONFIG_DEBUG_INFO_BTF)")

// machine finds what programs are attached to.
func machine(lacks []string) (attachments, error) {
	cgroup, err := CgroupRoot()
	if err != nil {
		return attachments{}, err
	}
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		return attachments{}, fmt.Errorf("%w: %w", ErrNoTypes, err)
	}
	return attachments{cgroup: cgroup, kernel: kernel, noFexit: fexitRefusal(kernel), lacks: lacks}, nil
}

// fexitRefusal tries what some kernels do not allow at all, with a program that does nothing: asking for it again with every
// program would cost a second.
func fexitRefusal(kernel *btf.Spec) error {
	p, err := ebpf.NewProgramWithOptions(&ebpf.ProgramSpec{
		Name: "try_fexit", Type: ebpf.Tracing, AttachType: ebpf.AttachTraceFExit, AttachTo: "inet_sendmsg",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}, License: "Dual BSD/GPL",
	}, ebpf.ProgramOptions{KernelTypes: kernel})
	if err != nil {
		return fmt.Errorf("load a fexit program: %w", err)
	}
	defer p.Close()
	l, err := link.AttachTracing(link.TracingOptions{Program: p})
	if err != nil {
		return fmt.Errorf("attach a fexit program: %w", err)
	}
	return l.Close()
}
