package marks

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestMountTableIsRead(t *testing.T) {
	t.Parallel()
	const raw = `27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 25 0:27 / /with\040space rw,relatime shared:7 master:1 - tmpfs tmpfs rw
31 25 0:28 / /home/u/mnt rw - fuse.sshfs host: rw,user_id=1000,group_id=100
32 25 0:29 / /srv rw - fuse.x x rw,user_id=1000,group_id=100,allow_other
33 25 0:30 / /ov rw - overlay overlay rw,lowerdir=/a - b
34 25 0:31 / /proc rw - proc proc rw
not a mount
35 25 0 / /x rw - ext4 a b
`
	want := []Mount{
		{ID: 27, Device: unix.Mkdev(254, 0), Point: "/", Type: "ext4", Kind: Local},
		{ID: 30, Device: unix.Mkdev(0, 27), Point: "/with space", Type: "tmpfs", Kind: Local},
		{ID: 31, Device: unix.Mkdev(0, 28), Point: "/home/u/mnt", Type: "fuse.sshfs", Kind: Served, Readable: 1000, Group: 100},
		{ID: 32, Device: unix.Mkdev(0, 29), Point: "/srv", Type: "fuse.x", Kind: Served},
		{ID: 33, Device: unix.Mkdev(0, 30), Point: "/ov", Type: "overlay", Kind: Stacked},
		{ID: 34, Device: unix.Mkdev(0, 31), Point: "/proc", Type: "proc", Kind: Pseudo},
	}
	if diff := cmp.Diff(want, ParseTable([]byte(raw))); diff != "" {
		t.Error(diff)
	}
}

func TestPathsThroughServedMountsAreNotWalked(t *testing.T) {
	t.Parallel()
	mounts := []Mount{{Point: "/", Kind: Local}, {Point: "/mnt", Kind: Served}, {Point: "/mnt/in", Kind: Local}}
	for path, want := range map[string]bool{"/usr/bin/x": true, "/mnt": false, "/mnt/x": false, "/mnt/in/x": false, "/mntx": true} {
		if got := Reaches(mounts, path, Served); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
}
