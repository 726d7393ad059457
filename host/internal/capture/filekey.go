package capture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrNoFile tells that the kernel does not know a descriptor.
var ErrNoFile = errors.New("no such open file")

// FileKey tells how the kernel names the file behind a descriptor of this process. It walks over the open files of the
// whole machine, so it is for the cases that stat cannot settle.
func (k *Kernel) FileKey(fd int) (FileKey, error) {
	out, err := runIterator(k.objects.programs[kernelProgFileKeys])
	if err != nil {
		return FileKey{}, err
	}
	var raw kernelFileKey
	r := bytes.NewReader(out)
	for binary.Read(r, binary.NativeEndian, &raw) == nil {
		if int(raw.Fd) == fd {
			return FileKey{
				Superblock: k.convert.superblock(raw.Superblock), Device: device(raw.Device),
				Inode: raw.Inode, Ctime: raw.Ctime, Size: raw.Size,
			}, nil
		}
	}
	return FileKey{}, fmt.Errorf("kernel's name of descriptor %d: %w", fd, ErrNoFile)
}
