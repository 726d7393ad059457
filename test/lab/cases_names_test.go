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
	"slices"
	"strings"
	"time"
)

// nameCases are about the names of addresses, each told in one way only.
func nameCases() []scenario {
	return []scenario{
		{"name-getaddrinfo", func(c *Case) { c.named("host.lab.example", "getaddrinfo", resolveOnHost) }},
		{"name-container", func(c *Case) { c.named("container.lab.example", "getaddrinfo", resolveInContainer) }},
		{"name-dns-udp", func(c *Case) { c.named("udp.lab.example", "dns-process", askServer("udp")) }},
		{"name-dns-tcp", func(c *Case) { c.named("tcp.lab.example", "dns-process", askServer("tcp")) }},
		{"name-tls", func(c *Case) { c.named("tls.lab.example", "sni", greet("tls")) }},
		{"name-tls-split", func(c *Case) { c.named("split.lab.example", "sni", greetIn(0, 20)) }},
		{"name-tls-long", func(c *Case) { c.named("long.lab.example", "sni", greetIn(5000, 1<<16)) }},
		{"name-quic", func(c *Case) { c.named("example.com", "sni", greet("quic")) }}, // as RFC 9001, appendix A.2
	}
}

// named has a program find an address by a name and use it, as often as it is told to on a line of input, until a row has
// the name from that source. command gives the program, which gets name, address and port on each line.
func (c *Case) named(name, source string, command func(c *Case, name string, at netip.Addr) []string) {
	server := c.Start("server", c.Pair.B)
	to := netip.MustParseAddrPort(server.Listen("l", "tcp4", c.Pair.B.V4))
	if name == "example.com" {
		to = netip.AddrPortFrom(c.Pair.B.V4, 443)
	}
	args := command(c, name, to.Addr())
	cmd := exec.CommandContext(c.Context(), args[0], args[1:]...)
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
	labels := strings.Split(name, ".")
	slices.Reverse(labels)
	want := strings.Join(labels, ".") + " " + source
	var got string
	for end := time.Now().Add(Deadline()); got != want; time.Sleep(500 * time.Millisecond) {
		if time.Now().After(end) {
			c.Fatalf("the rows' name is %q, want %q\n%s", got, want, c.Daemon.LogTail())
		}
		if _, err := fmt.Fprintln(in, name, to.Addr(), to.Port()); err != nil {
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

// connect is for bash, which asks getaddrinfo.
const connect = `while read name address port; do exec 3<>/dev/tcp/$name/$port && echo hello >&3; exec 3>&-; done`

// hosts writes a file that names an address.
func (c *Case) hosts(name string, at netip.Addr) string {
	c.Helper()
	path := filepath.Join(c.place("etc"), "hosts")
	if err := os.WriteFile(path, fmt.Appendf(nil, "%s %s\n", at, name), 0o644); err != nil {
		c.Fatal(err)
	}
	return path
}

// resolveOnHost runs the host's C library with another hosts file.
func resolveOnHost(c *Case, name string, at netip.Addr) []string {
	const bind = `mount --bind "$0" /etc/hosts && exec bash -c "$1"`
	return []string{"unshare", "--mount", "sh", "-c", bind, c.hosts(name, at), connect}
}

// resolveInContainer runs a copy of the C library, in a root directory of its own.
func resolveInContainer(c *Case, name string, at netip.Addr) []string {
	root := c.mountAt("root", "tmpfs", "lab", "mode=755", 0)
	bash, err := exec.LookPath("bash")
	if err != nil {
		c.Fatal(err)
	}
	listed, err := exec.CommandContext(c.Context(), "ldd", bash).Output()
	if err != nil {
		c.Fatalf("ldd %s: %v", bash, err)
	}
	from := map[string]string{"/etc/hosts": c.hosts(name, at), "/bin/bash": bash}
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
	return []string{"unshare", "--mount", "chroot", root, "/bin/bash", "-c", connect}
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

// python runs a script for each line of input, whose words are name, address and port. It never asks getaddrinfo.
func python(each string, args ...string) []string {
	const frame = `import socket, ssl, struct, sys
for line in sys.stdin:
    name, address, port = line.split()
    exec(sys.argv[1])
`
	return append([]string{"/usr/bin/python3", "-c", frame, each}, args...)
}

// askServer asks a name server at the other end itself, as programs do that have a resolver of their own.
func askServer(network string) func(*Case, string, netip.Addr) []string {
	return func(c *Case, name string, at netip.Addr) []string {
		c.serveNames(network, name, at)
		return python(`
question = b"\x12\x34\1\0\0\1\0\0\0\0\0\0" + b"".join(bytes([len(l)]) + l.encode() for l in name.split(".")) + b"\0\0\1\0\1"
if sys.argv[2] == "udp":
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.sendto(question, (address, 53))
    answer = s.recv(512)
else:
    s = socket.socket()
    s.connect((address, 53))
    s.sendall(struct.pack(">H", len(question)) + question)
    f = s.makefile("rb")
    answer = f.read(struct.unpack(">H", f.read(2))[0])
s.close()
s = socket.socket()
s.connect((socket.inet_ntoa(answer[-4:]), int(port)))
s.sendall(b"hello")
s.close()
`, network)
	}
}

// greet says a name to whom it has connected.
func greet(how string) func(*Case, string, netip.Addr) []string {
	return func(c *Case, _ string, _ netip.Addr) []string {
		if how == "quic" {
			hello, err := os.ReadFile("../../host/internal/name/hello/testdata/rfc9001-a2-client-initial.hex")
			if err != nil {
				c.Fatal(err)
			}
			return python(`
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.sendto(bytes.fromhex(sys.argv[2]), (address, int(port)))
s.close()
`, string(hello))
		}
		return python(`
s = socket.socket()
s.connect((address, int(port)))
s.settimeout(0.2)
try:
    ssl.create_default_context().wrap_socket(s, server_hostname=name)
except OSError:
    pass # nobody answers
s.close()
`)
	}
}

// greetIn says a name in segments of so many bytes, after so many others.
func greetIn(before, segment int) func(*Case, string, netip.Addr) []string {
	return func(*Case, string, netip.Addr) []string {
		return python(`
before, segment = int(sys.argv[2]), int(sys.argv[3])
sni = struct.pack(">HBH", len(name) + 3, 0, len(name)) + name.encode()
extensions = struct.pack(">HH", 21, before) + bytes(before) + struct.pack(">HH", 0, len(sni)) + sni
body = b"\3\3" + bytes(33) + b"\0\2\x13\1\1\0" + struct.pack(">H", len(extensions)) + extensions
hello = b"\1" + len(body).to_bytes(3, "big") + body
hello = b"\x16\3\1" + struct.pack(">H", len(hello)) + hello
s = socket.socket()
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
s.connect((address, int(port)))
for i in range(0, len(hello), segment):
    s.sendall(hello[i:i + segment])
s.close()
`, fmt.Sprint(before), fmt.Sprint(segment))
	}
}
