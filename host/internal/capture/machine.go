package capture

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf/btf"
)

// ErrNoTypes tells that the kernel does not describe its own types (BTF), which the programs are fitted to.
var ErrNoTypes = errors.New("the kernel has no type information (CONFIG_DEBUG_INFO_BTF)")

// machine finds what programs are attached to.
func machine() (attachments, error) {
	cgroup, err := CgroupRoot()
	if err != nil {
		return attachments{}, err
	}
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		return attachments{}, fmt.Errorf("%w: %w", ErrNoTypes, err)
	}
	return attachments{cgroup: cgroup, kernel: kernel}, nil
}
