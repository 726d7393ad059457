package helper

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fuseVerb makes the test binary a FUSE server: UID, mount point, file that is served as "program". It is a process of its
// own because a test must not wait for a file system that it serves itself.
const fuseVerb = "fuse-server"

// mountFUSE mounts a file system of uid, with three files: "program", "hang", whose server takes the request to open it and
// never answers but writes a line to hung, and "changing", with another change time at each look. Killing the server ends
// all.
func mountFUSE(t *testing.T, uid int, program string) (dir string, server *exec.Cmd, hung *bufio.Scanner) {
	t.Helper()
	top, err := os.MkdirTemp("/tmp", "picosnitch-fuse-")
	must(t, err)
	dir = filepath.Join(top, "mount")
	must(t, os.Chmod(top, 0o755))
	must(t, os.Mkdir(dir, 0o755))
	server = exec.CommandContext(t.Context(), "/proc/self/exe", fuseVerb, strconv.Itoa(uid), dir, program)
	server.Stderr = os.Stderr
	// A test that panics cleans nothing up: the server ends with this pipe. Not by PDEATHSIG: that comes with the end of the
	// thread, which may be the one that a starter takes along.
	_, err = server.StdinPipe()
	must(t, err)
	ready, err := server.StdoutPipe()
	must(t, err)
	must(t, server.Start())
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
		_ = unix.Unmount(dir, unix.MNT_DETACH)
		must(t, os.RemoveAll(top))
	})
	hung = bufio.NewScanner(ready)
	if !hung.Scan() {
		t.Fatalf("FUSE server: %v", hung.Err())
	}
	return dir, server, hung
}

// awaitHung waits until the server has taken n requests that it will not answer: whoever made them cannot be killed.
func awaitHung(t *testing.T, hung *bufio.Scanner, n int) {
	t.Helper()
	for range n {
		if !hung.Scan() {
			t.Fatalf("FUSE server: %v", hung.Err())
		}
	}
}

// serveFUSE is the server's main.
func serveFUSE(args []string) error {
	program, err := os.ReadFile(args[2])
	if err != nil {
		return err
	}
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open /dev/fuse: %w", err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=%s,group_id=%s", fd, args[0], args[0])
	if err := unix.Mount("picosnitch-test", args[1], "fuse", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return fmt.Errorf("mount %s: %w", args[1], err)
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	fmt.Println("ready")
	buffer := make([]byte, 256<<10)
	for {
		n, err := unix.Read(fd, buffer)
		if err == unix.EINTR || err == unix.EAGAIN || err == unix.ENOENT {
			continue
		}
		if err != nil {
			return fmt.Errorf("read request: %w", err)
		}
		body, errno := answerFUSE(buffer[:n], program)
		if errno == silence {
			continue
		}
		reply := binary.NativeEndian.AppendUint32(nil, uint32(16+len(body)))
		reply = binary.NativeEndian.AppendUint32(reply, uint32(-int32(errno)))
		reply = append(reply, buffer[8:16]...) // whose answer it is
		if _, err := unix.Write(fd, append(reply, body...)); err != nil && err != unix.ENOENT {
			return fmt.Errorf("write reply: %w", err)
		}
	}
}

// silence is no error number.
const silence = syscall.Errno(4095)

// Nodes of the file system.
const (
	nodeRoot = 1 + iota
	nodeProgram
	nodeHang
	nodeChanging
)

// answerFUSE does what include/uapi/linux/fuse.h asks for.
func answerFUSE(request, program []byte) (body []byte, errno syscall.Errno) {
	u32, u64 := binary.NativeEndian.Uint32, binary.NativeEndian.Uint64
	node, in := u64(request[16:]), request[40:]
	put := func(values ...uint64) []byte {
		var b []byte
		for _, v := range values {
			b = binary.NativeEndian.AppendUint64(b, v)
		}
		return b
	}
	switch u32(request[4:]) {
	case 26: // INIT: version 7.31, then 56 bytes of which max_write matters
		out := binary.NativeEndian.AppendUint32(nil, 7)
		out = binary.NativeEndian.AppendUint32(out, 31)
		out = append(out, make([]byte, 56)...)
		binary.NativeEndian.PutUint32(out[20:], 4096)
		return out, 0
	case 1: // LOOKUP
		nodes := map[string]uint64{"program\x00": nodeProgram, "hang\x00": nodeHang, "changing\x00": nodeChanging}
		node := nodes[string(in)]
		if node == 0 {
			return nil, syscall.ENOENT
		}
		return append(put(node, 0, 0, 0, 0), attributes(node, len(program))...), 0
	case 3: // GETATTR
		return append(put(0, 0), attributes(node, len(program))...), 0
	case 14, 27: // OPEN, OPENDIR
		if node == nodeHang {
			fmt.Println("hung")
			return nil, silence
		}
		return put(0, 0), 0
	case 15: // READ
		from := min(u64(in[8:]), uint64(len(program)))
		return program[from:min(from+uint64(u32(in[16:])), uint64(len(program)))], 0
	case 18, 25, 29: // RELEASE, FLUSH, RELEASEDIR
		return nil, 0
	case 2, 36, 42: // FORGET, INTERRUPT, BATCH_FORGET
		return nil, silence
	}
	return nil, syscall.ENOSYS
}

// attributes is a struct fuse_attr.
func attributes(node uint64, size int) []byte {
	b := binary.NativeEndian.AppendUint64(nil, node)
	ctime := uint64(1700000000)
	if node == nodeChanging {
		ctime = uint64(time.Now().UnixNano())
	}
	for _, v := range []uint64{uint64(size), 8, 1700000000, 1700000000, ctime} {
		b = binary.NativeEndian.AppendUint64(b, v)
	}
	mode := uint32(unix.S_IFREG | 0o555)
	if node == nodeRoot {
		mode = unix.S_IFDIR | 0o755
	}
	for _, v := range []uint32{0, 0, 0, mode, 1, 0, 0, 0, 4096, 0} {
		b = binary.NativeEndian.AppendUint32(b, v)
	}
	return b
}
