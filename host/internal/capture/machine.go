package capture

import (
	"fmt"

	"github.com/cilium/ebpf/btf"
)

// machine finds what programs are attached to.
func machine() (attachments, error) {
	cgroup, err := CgroupRoot()
	if err != nil {
		return attachments{}, err
	}
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		return attachments{}, fmt.Errorf("read the kernel's type information (CONFIG_DEBUG_INFO_BTF): %w", err)
	}
	return attachments{cgroup: cgroup, kernel: kernel}, nil
}
