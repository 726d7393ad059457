package lab

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// nameCases are about the names of addresses. All of them are in files: nothing is on the wire.
func nameCases() []scenario {
	return []scenario{
		{"name-getaddrinfo", func(c *Case) { resolves(c, "host.lab.example", resolveOnHost) }},
		{"name-container", func(c *Case) { resolves(c, "container.lab.example", resolveInContainer) }},
	}
}

// resolves has a program look a name up in its hosts file and connect, until a row has the name.
func resolves(c *Case, name string, command func(c *Case, hosts string) []string) {
	server := c.Start("server", c.Pair.B)
	to := netip.MustParseAddrPort(server.Listen("l", "tcp4", c.Pair.B.V4))
	hosts := filepath.Join(c.place("etc"), "hosts")
	if err := os.WriteFile(hosts, fmt.Appendf(nil, "%s %s\n", to.Addr(), name), 0o644); err != nil {
		c.Fatal(err)
	}
	args := command(c, hosts)
	const connect = `while read name port; do exec 3<>/dev/tcp/$name/$port && echo hello >&3; exec 3>&-; done`
	cmd := exec.CommandContext(c.Context(), args[0], append(args[1:], connect)...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		c.Fatal(err)
	}
	if err := c.Pair.A.Do(cmd.Start); err != nil {
		c.Fatal(err)
	}
	defer func() {
		if err := errors.Join(in.Close(), cmd.Wait()); err != nil {
			c.Error(err)
		}
	}()
	words := strings.Split(name, ".")
	want := strings.Join([]string{words[2], words[1], words[0]}, ".") + " getaddrinfo"
	var got string
	for end := time.Now().Add(Deadline()); got != want; time.Sleep(500 * time.Millisecond) {
		if time.Now().After(end) {
			c.Fatalf("the rows' name is %q, want %q\n%s", got, want, c.Daemon.LogTail())
		}
		if _, err := fmt.Fprintln(in, name, to.Port()); err != nil {
			c.Fatal(err)
		}
		if got, err = c.domainOf(to); err != nil {
			c.Logf("will ask again: %v", err)
		}
	}
	c.result = Exact
}

// domainOf gives the name, and its source, of the last row of this case that has one for a remote address.
func (c *Case) domainOf(remote netip.AddrPort) (string, error) {
	db, err := openDatabase(c.Daemon.Database())
	if err != nil {
		return "", err
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(c.Context(), Deadline())
	defer cancel()
	var domain string
	err = db.QueryRowContext(ctx, `SELECT domain || ' ' || domain_source FROM connections
		WHERE netns = ? AND raddr = ? AND rport = ? AND domain <> '' ORDER BY contime DESC LIMIT 1`,
		int64(c.Pair.A.Inode), remote.Addr().String(), remote.Port()).Scan(&domain)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return domain, err
}

// resolveOnHost runs the host's C library with another hosts file.
func resolveOnHost(c *Case, hosts string) []string {
	return []string{"unshare", "--mount", "sh", "-c", `mount --bind "$0" /etc/hosts && exec bash -c "$1"`, hosts}
}

// resolveInContainer runs a copy of the C library, in a root directory of its own.
func resolveInContainer(c *Case, hosts string) []string {
	root := c.mountAt("root", "tmpfs", "lab", "mode=755", 0)
	bash, err := exec.LookPath("bash")
	if err != nil {
		c.Fatal(err)
	}
	listed, err := exec.CommandContext(c.Context(), "ldd", bash).Output()
	if err != nil {
		c.Fatalf("ldd %s: %v", bash, err)
	}
	from := map[string]string{"/etc/hosts": hosts, "/bin/bash": bash}
	for _, word := range strings.Fields(string(listed)) {
		if strings.HasPrefix(word, "/") {
			from[word] = word
		}
	}
	for path, original := range from {
		c.copyFile(original, filepath.Join(root, path))
	}
	if err := os.WriteFile(filepath.Join(root, "etc/nsswitch.conf"), []byte("hosts: files\n"), 0o644); err != nil {
		c.Fatal(err)
	}
	return []string{"unshare", "--mount", "chroot", root, "/bin/bash", "-c"}
}

func (c *Case) copyFile(from, to string) {
	c.Helper()
	raw, err := os.ReadFile(from)
	if err == nil {
		err = errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, raw, 0o755))
	}
	if err != nil {
		c.Fatal(err)
	}
}
