package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/test/lab/script"
)

// identityCases are about which file was executed, wherever it lies and whatever becomes of it.
func identityCases() []scenario {
	return []scenario{
		{"exe-deleted", exeDeleted},
		{"exe-self-deleted", exeSelfDeleted},
		{"exe-replaced", exeReplaced},
		{"exe-modified", exeModified},
		{"exe-hard-link", exeLinked(os.Link)},
		{"exe-symlink", exeLinked(os.Symlink)},
		{"exe-script", exeScript},
		{"exe-memfd", exeMemfd},
		{"exe-setuid", exeSetuid},
		{"exe-disguised", exeDisguised},
		{"exe-forged", exeForged},
		{"exe-pretender", exePretender},
		{"exe-pid-namespace", exePidNamespace},
		{"exe-tmpfs", exeOn((*Case).onTmpfs)},
		{"exe-overlayfs", exeOn((*Case).onOverlay)},
		{"exe-btrfs-subvolume", exeOn((*Case).onBtrfs)},
		{"exe-squashfs", exeOn((*Case).onSquashfs)},
		{"exe-fuse", exeFuse},
	}
}

// exeDeleted goes on after its file is gone, and ends before anybody asks for it.
func exeDeleted(c *Case) {
	server, p := c.Start("server", c.Pair.A), c.Start("deleted", c.Pair.A)
	if err := os.Remove(filepath.Join(c.dir, "deleted")); err != nil {
		c.Fatal(err)
	}
	talk(server, p, "s", 321)
	p.Finish()
	server.Finish()
	c.Check()
}

// exeSelfDeleted are programs that remove their own file first, and are gone soon.
func exeSelfDeleted(c *Case) {
	server := c.Start("server", c.Pair.A)
	address := server.Listen("l", "tcp4", loopback4)
	for i := range 10 {
		path := c.Binary(fmt.Sprint("program", i))
		if _, err := c.Lab.hash(path); err != nil { // it is remembered
			c.Fatal(err)
		}
		c.brief(launch{space: c.Pair.A, path: path},
			script.Command{Do: script.Unlink, Path: path},
			script.Command{Do: script.Socket, Name: "s", Net: "tcp4"},
			script.Command{Do: script.Connect, Name: "s", Address: address},
			script.Command{Do: script.Send, Name: "s", Bytes: 100 + i})
		name := fmt.Sprint("s", i)
		server.Accept("l", name)
		server.Receive(name, 1<<20)
	}
	server.Finish()
	c.Check()
}

// exeReplaced is an update while the old program runs: each process has the hash of what it was started from.
func exeReplaced(c *Case) {
	server, path := c.Start("server", c.Pair.A), c.Binary("program")
	old := c.StartAs(0, path, c.Pair.A)
	if err := os.Rename(c.Binary("update"), path); err != nil {
		c.Fatal(err)
	}
	update := c.StartAs(0, path, c.Pair.A)
	talk(server, old, "old", 100)
	talk(server, update, "new", 200)
	if old.Identity().SHA256 == update.Identity().SHA256 {
		c.Fatal("the update is no other file")
	}
	old.Finish()
	update.Finish()
	server.Finish()
	c.Check()
}

// exeModified is written to in place between two runs, and between many that follow each other at once.
func exeModified(c *Case) {
	path := c.Binary("program")
	seen := map[string]bool{}
	for i := range 3 {
		server, p := c.Start("server", c.Pair.A), c.StartAs(0, path, c.Pair.A)
		talk(server, p, fmt.Sprint("s", i), 100+i)
		seen[p.Identity().SHA256] = true
		p.Finish()
		server.Finish()
		c.Check() // and so its hash was taken: what is written over before that is said to have changed
		f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		if err == nil {
			_, err = f.WriteString("more")
			err = firstError(err, f.Close())
		}
		if err != nil {
			c.Fatal(err)
		}
	}
	if len(seen) != 3 {
		c.Fatalf("%d contents in 3 runs", len(seen))
	}
	c.rewrittenAtOnce()
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// exeLinked runs one file by another name.
func exeLinked(link func(old, name string) error) func(*Case) {
	return func(c *Case) {
		server, path := c.Start("server", c.Pair.A), c.Binary("program")
		other := filepath.Join(c.dir, "other")
		if err := link(path, other); err != nil {
			c.Fatal(err)
		}
		for i, name := range []string{path, other} {
			p := c.StartAs(0, name, c.Pair.A)
			talk(server, p, fmt.Sprint("s", i), 50+i)
			p.Finish()
		}
		server.Finish()
		c.Check()
	}
}

// exeScript runs a program as the interpreter of a script, and as one that env has looked for: the interpreter is what was
// executed, and the script stands beside it.
func exeScript(c *Case) {
	server, interpreter := c.Start("server", c.Pair.A), c.Binary("interpreter")
	for i, script := range []struct{ name, line, comm string }{
		{"script", interpreter + " -x", "script"}, // the kernel calls it by the file that was asked for
		{"found", "/usr/bin/env " + interpreter, "interpreter"},
	} {
		path := filepath.Join(c.dir, script.name)
		if err := writeExecutable(path, []byte("#!"+script.line+"\n")); err != nil {
			c.Fatal(err)
		}
		p := c.StartAs(0, path, c.Pair.A, "argument")
		talk(server, p, script.name, 99+i)
		p.Finish(func(e *Expectation) { e.Key.Process.Name = script.comm })
	}
	server.Finish()
	c.Check()
	c.wantScripts(interpreter, filepath.Join(c.dir, "found")+" "+filepath.Join(c.dir, "script"))
}

// wantScripts compares the scripts that an interpreter ran, sorted.
func (c *Case) wantScripts(interpreter, want string) {
	c.Helper()
	db, err := openDatabase(c.Daemon.Database())
	if err != nil {
		c.Fatal(err)
	}
	defer db.Close()
	var got string
	const ask = "SELECT group_concat(script, ' ') FROM (SELECT DISTINCT script FROM connections WHERE exe = ? ORDER BY script)"
	if err := db.QueryRowContext(c.Context(), ask, interpreter).Scan(&got); err != nil || got != want {
		c.Errorf("scripts %q, %v, want %q", got, err, want)
	}
}

// exeMemfd runs a program that is in no file system.
func exeMemfd(c *Case) {
	server := c.Start("server", c.Pair.A)
	raw, err := os.ReadFile(c.Binary("program"))
	if err != nil {
		c.Fatal(err)
	}
	fd, err := unix.MemfdCreate("lab", unix.MFD_CLOEXEC)
	if err != nil {
		c.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "memfd")
	defer f.Close()
	if _, err := f.Write(raw); err != nil {
		c.Fatal(err)
	}
	p := c.StartAs(0, fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd), c.Pair.A)
	talk(server, p, "s", 77)
	p.Finish(func(e *Expectation) { e.Key.Process.Exe = strings.TrimSuffix(e.Key.Process.Exe, " (deleted)") })
	server.Finish()
	c.Check()
}

// exeSetuid has another user's rights, and is still its caller's.
func exeSetuid(c *Case) {
	server, path := c.Start("server", c.Pair.A), c.Binary("setuid")
	if err := os.Chmod(path, 0o755|os.ModeSetuid); err != nil {
		c.Fatal(err)
	}
	p := c.StartAs(secondUID, path, c.Pair.A)
	talk(server, p, "s", 66)
	p.Finish()
	server.Finish()
	c.Check()
}

// exeDisguised calls itself by another name and overwrites its arguments: what was executed stays known.
func exeDisguised(c *Case) {
	server, p := c.Start("server", c.Pair.A), c.Start("honest", c.Pair.A, "--argument")
	p.must(script.Command{Do: script.Disguise, As: "kworker/0:1"})
	talk(server, p, "s", 55)
	p.Finish()
	server.Finish()
	c.Check()
}

// exeForged has the kernel show a trusted program as its own, which any user may who has made a namespace: rows of it, and
// of the child that it forks then, name what was executed, and somebody is told.
func exeForged(c *Case) {
	const trusted = "/usr/bin/true"
	server, path := c.Start("server", c.Pair.A), filepath.Join(c.dir, "forger")
	if err := writeExecutable(path, buildHollow(c.Binary("engine"), path)); err != nil {
		c.Fatal(err)
	}
	p := c.start(launch{space: c.Pair.A, path: "/usr/bin/unshare", uid: secondUID, args: []string{"-Ur", path}})
	p.must(script.Command{Do: script.Forge, Path: trusted})
	pid := p.p.current().process.Pid
	if shown, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); shown != trusted {
		c.Fatalf("the link shows %q, %v", shown, err)
	}
	talk(server, p, "s", 22)
	user := func(e *Expectation) { e.Key.UID = secondUID }
	p.Fork("s", 11, 2, user)
	server.Receive("s", 44)
	c.CheckNotice(fmt.Sprintf("process %d shows %s as its program, but executes %s", pid, trusted, path))
	p.Finish(user)
	server.Finish()
	c.Check()
}

// exePretender shows its own file at a trusted path, in a mount namespace that any user may make; then it is executed from
// there by a process outside.
func exePretender(c *Case) {
	const trusted = "/usr/bin/true"
	server, path := c.Start("server", c.Pair.A), c.Binary("evil")
	sh := fmt.Sprintf("mount --bind %s %s && exec %s", path, trusted, trusted)
	p := c.start(launch{space: c.Pair.A, path: "/usr/bin/unshare", uid: secondUID, args: []string{"-Urm", "sh", "-c", sh}})
	talk(server, p, "s", 44)
	pid := p.p.current().process.Pid
	namespace, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", pid))
	if err != nil {
		c.Fatal(err)
	}
	inode := strings.TrimSuffix(strings.TrimPrefix(namespace, "mnt:["), "]")
	borrower := c.StartAs(secondUID, fmt.Sprintf("/proc/%d/root%s", pid, trusted), c.Pair.A)
	talk(server, borrower, "b", 45)
	caught := func(e *Expectation) {
		e.Key.Process.Exe = "mntns:" + inode + ":" + trusted
		e.Key.UID = secondUID
	}
	borrower.Finish(caught)
	p.Finish(caught)
	server.Finish()
	c.Check()
}

// exePidNamespace is process 1 where it lives, and somebody else for the host.
func exePidNamespace(c *Case) {
	wrapper, err := exec.LookPath("bwrap")
	c.Feature("bubblewrap", err == nil)
	server := c.Start("server", c.Pair.A)
	p := c.StartWrapped("inside", c.Pair.A, wrapper, "--unshare-pid", "--as-pid-1", "--bind", "/", "/", "--proc", "/proc", "--")
	talk(server, p, "s", 33)
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", p.p.cmd.Process.Pid))
	if err != nil {
		c.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		c.Fatalf("children of bwrap: %v", err)
	}
	p.Finish(func(e *Expectation) { e.Key.Pid = pid })
	server.Finish()
	c.Check()
}

// exeOn runs a program that stays and some that do not from another file system.
func exeOn(place func(*Case, ...string) string) func(*Case) {
	return func(c *Case) {
		names := []string{"stays", "fly0", "fly1", "fly2"}
		dir := place(c, names...)
		server, p := c.Start("server", c.Pair.B), c.StartAs(0, filepath.Join(dir, names[0]), c.Pair.A)
		address := server.Listen("l", "tcp4", c.Pair.B.V4)
		for i, name := range names[1:] {
			c.mayfly(filepath.Join(dir, name), address, 500+i, i)
			server.Accept("l", name)
			server.Receive(name, 1<<20)
		}
		p.Dial("s", "tcp4", address)
		server.Accept("l", "s")
		p.Send("s", 900, 1)
		server.Receive("s", 900)
		p.Finish()
		server.Finish()
		c.Check()
	}
}

// exeFuse runs a program from a file system that only its user can read.
func exeFuse(c *Case) {
	tool, err := exec.LookPath("squashfuse")
	c.Feature("squashfuse", err == nil)
	_, err = os.Stat("/dev/fuse")
	c.Feature("FUSE", err == nil)
	image, target := c.squash("program"), c.place("fuse")
	if err := os.Chown(target, secondUID, secondUID); err != nil {
		c.Fatal(err)
	}
	// Its user may mount: fusermount wants one that has a name.
	c.run(secondUID, []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_DAC_OVERRIDE}, tool, image, target)
	c.Cleanup(func() { _ = unix.Unmount(target, unix.MNT_DETACH) })
	if _, err := os.ReadDir(target); err == nil {
		c.Fatal("root can read it: the case does not show what it shall")
	}
	server, p := c.Start("server", c.Pair.A), c.StartAs(secondUID, filepath.Join(target, "program"), c.Pair.A)
	talk(server, p, "s", 88)
	time.Sleep(5 * time.Second) // it is looked at in a window, judged in the next and told in the one after
	p.Finish()
	server.Finish()
	c.Check()
	c.CheckNoNotice("shows " + filepath.Join(target, "program"))
}

// place makes a directory of the case.
func (c *Case) place(name string) string {
	c.Helper()
	path := filepath.Join(c.dir, name)
	if err := os.MkdirAll(path, 0o755); err != nil {
		c.Fatal(err)
	}
	return path
}

// run runs a command that has to succeed, as a user with capabilities.
func (c *Case) run(uid int, may []uintptr, command string, args ...string) {
	c.Helper()
	cmd := exec.CommandContext(c.Context(), command, args...)
	if uid != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}, AmbientCaps: may,
		}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		c.Fatalf("%s %q: %v\n%s", command, args, err, out)
	}
}

// mount mounts a file system on a directory of the case until it ends; without the file system the case is skipped.
func (c *Case) mount(kind, source, data string, flags uintptr) string {
	c.Helper()
	return c.mountAt("mounted", kind, source, data, flags)
}

func (c *Case) mountAt(place, kind, source, data string, flags uintptr) string {
	c.Helper()
	target := c.place(place)
	err := unix.Mount(source, target, kind, flags, data)
	c.Feature(kind, err != unix.ENODEV)
	if err != nil {
		c.Fatalf("mount %s: %v", kind, err)
	}
	c.Cleanup(func() { _ = unix.Unmount(target, unix.MNT_DETACH) })
	return target
}

func (c *Case) copies(dir string, names []string) string {
	c.Helper()
	for _, name := range names {
		if err := c.Lab.Copy(filepath.Join(dir, name)); err != nil {
			c.Fatal(err)
		}
	}
	return dir
}

func (c *Case) onTmpfs(names ...string) string {
	return c.copies(c.mount("tmpfs", "lab", "mode=755", 0), names)
}

// onOverlay has a tmpfs for the upper layer: the lab may lie on an overlay itself (a guest's), which cannot be one.
func (c *Case) onOverlay(names ...string) string {
	lower, layers := c.copies(c.place("lower"), names), c.mountAt("layers", "tmpfs", "lab", "mode=755", 0)
	upper, work := filepath.Join(layers, "upper"), filepath.Join(layers, "work")
	if err := firstError(os.Mkdir(upper, 0o755), os.Mkdir(work, 0o755)); err != nil {
		c.Fatal(err)
	}
	data := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", lower, upper, work)
	return c.mount("overlay", "lab", data, 0)
}

// loop gives a block device for a file until the case ends.
func (c *Case) loop(file string) string {
	c.Helper()
	out, err := exec.CommandContext(c.Context(), "losetup", "--find", "--show", file).Output()
	c.Feature("loop devices", err == nil)
	device := strings.TrimSpace(string(out))
	c.Cleanup(func() { _ = exec.Command("losetup", "--detach", device).Run() })
	return device
}

func (c *Case) onBtrfs(names ...string) string {
	mkfs, err := exec.LookPath("mkfs.btrfs")
	c.Feature("mkfs.btrfs", err == nil)
	image := filepath.Join(c.place("images"), "btrfs")
	if err := firstError(os.WriteFile(image, nil, 0o600), os.Truncate(image, 128<<20)); err != nil {
		c.Fatal(err)
	}
	c.run(0, nil, mkfs, "-q", "-M", image)
	top := c.mount("btrfs", c.loop(image), "", 0)
	c.run(0, nil, "btrfs", "-q", "subvolume", "create", filepath.Join(top, "sub"))
	return c.copies(filepath.Join(top, "sub"), names)
}

func (c *Case) squash(names ...string) string {
	mksquashfs, err := exec.LookPath("mksquashfs")
	c.Feature("mksquashfs", err == nil)
	image := filepath.Join(c.place("images"), "squashfs")
	c.run(0, nil, mksquashfs, c.copies(c.place("content"), names), image, "-noI", "-noD", "-quiet", "-no-progress")
	if err := os.Chmod(image, 0o644); err != nil {
		c.Fatal(err)
	}
	return image
}

func (c *Case) onSquashfs(names ...string) string {
	return c.mount("squashfs", c.loop(c.squash(names...)), "", unix.MS_RDONLY)
}
