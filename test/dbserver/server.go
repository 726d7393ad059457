// Package dbserver starts real PostgreSQL and MariaDB servers for tests: each in a directory of its own, as the user of
// Debian's package, on a socket in that directory and a port of the loopback interface with TLS, and ends them with the test.
package dbserver

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/test/need"
)

// deadline is how long a server may take to start or to end; machines are loaded.
const deadline = 60 * time.Second

// Server is a running server with an empty database called "picosnitch".
type Server struct {
	Directory string
	Sockets   string // below it, with the socket and nothing else: what a sandbox may be given
	Socket    string // path of the socket, for MariaDB; PostgreSQL's name follows from the port
	Port      int
	CA        string // certificate that the server's is signed with, for localhost
	User      string // who may do everything, through the socket, without a password

	t       testing.TB
	cmd     *exec.Cmd
	exited  chan struct{} // closed when cmd has ended
	command []string
	ready   func() error
	uid     int
	gid     int
}

// PostgreSQL starts one.
func PostgreSQL(t testing.TB) *Server {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin") // not in PATH
	need.Have(t, "a PostgreSQL server (Debian package postgresql)", len(found) > 0)
	bin := found[len(found)-1]
	s := prepare(t, "postgres")
	data := filepath.Join(s.Directory, "data")
	s.run(filepath.Join(bin, "initdb"), "-D", data, "-U", "admin", "-A", "scram-sha-256", "--auth-local=trust", "-E", "UTF8",
		"--locale=C", "-N", "--pwfile", s.file("password", "admin"))
	s.write(filepath.Join(data, "pg_hba.conf"), "local all admin trust\nlocal all all scram-sha-256\nhostssl all all 127.0.0.1/32 scram-sha-256\n")
	s.User = "admin"
	s.command = []string{filepath.Join(bin, "postgres"), "-D", data, "-k", s.Sockets, "-h", "127.0.0.1", "-p", strconv.Itoa(s.Port),
		"-c", "ssl=on", "-c", "ssl_cert_file=" + filepath.Join(s.Directory, "server.pem"),
		"-c", "ssl_key_file=" + filepath.Join(s.Directory, "server.key"), "-c", "shared_buffers=64MB", "-c", "max_wal_size=2GB"}
	s.ready = func() error {
		return s.try("psql", "-h", s.Sockets, "-p", strconv.Itoa(s.Port), "-U", "admin", "-c", "SELECT 1", "postgres")
	}
	s.Start()
	s.run("psql", "-h", s.Sockets, "-p", strconv.Itoa(s.Port), "-U", "admin", "-c", "CREATE DATABASE picosnitch", "postgres")
	return s
}

// MariaDB starts one.
func MariaDB(t testing.TB) *Server {
	t.Helper()
	need.Program(t, "mariadbd")
	s := prepare(t, "mysql")
	data := filepath.Join(s.Directory, "data")
	s.User, s.Socket = "root", filepath.Join(s.Sockets, "socket")
	s.run("mariadb-install-db", "--no-defaults", "--datadir="+data, "--auth-root-authentication-method=normal", "--skip-test-db",
		"--skip-name-resolve")
	s.command = []string{"mariadbd", "--no-defaults", "--datadir=" + data, "--socket=" + s.Socket, "--port=" + strconv.Itoa(s.Port),
		"--bind-address=127.0.0.1", "--pid-file=" + filepath.Join(s.Directory, "pid"), "--skip-name-resolve",
		"--ssl-cert=" + filepath.Join(s.Directory, "server.pem"), "--ssl-key=" + filepath.Join(s.Directory, "server.key"),
		"--innodb-buffer-pool-size=128M", "--innodb-log-file-size=256M"}
	s.ready = func() error { return s.try("mariadb", "--no-defaults", "-S", s.Socket, "-u", "root", "-e", "SELECT 1") }
	s.Start()
	s.run("mariadb", "--no-defaults", "-S", s.Socket, "-u", "root", "-e", "CREATE DATABASE picosnitch CHARACTER SET utf8mb4")
	return s
}

// prepare makes a directory that belongs to the system user of that name, with a port, keys and certificates.
func prepare(t testing.TB, name string) *Server {
	t.Helper()
	need.Root(t, "start a server as its own user")
	account, err := user.Lookup(name)
	need.Have(t, "the user "+name, err == nil)
	// Not t.TempDir: the path of a socket has room for 107 bytes, and others must get there.
	directory, err := os.MkdirTemp("", "dbserver")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Directory: directory, Sockets: filepath.Join(directory, "s"), t: t, CA: filepath.Join(directory, "ca.pem")}
	s.uid, _ = strconv.Atoi(account.Uid)
	s.gid, _ = strconv.Atoi(account.Gid)
	t.Cleanup(func() {
		s.Kill()
		_ = os.RemoveAll(directory)
	})
	if err := os.Mkdir(s.Sockets, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(directory, 0o755); err != nil { // users of the server get to its socket
		t.Fatal(err)
	}
	s.own(directory)
	s.own(s.Sockets)
	s.certificates()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Port = listener.Addr().(*net.TCPAddr).Port
	_ = listener.Close()
	return s
}

// Start starts the server, again after it ended, and waits until it answers. One that ends at once is started again: the
// processes of one that was killed may hold its memory for a moment.
func (s *Server) Start() {
	s.t.Helper()
	s.launch()
	for end := time.Now().Add(deadline); s.ready() != nil; time.Sleep(50 * time.Millisecond) {
		select {
		case <-s.exited:
			s.launch()
		default:
		}
		if time.Now().After(end) {
			said, _ := os.ReadFile(filepath.Join(s.Directory, "log"))
			s.t.Fatalf("the server does not answer after %v:\n%s", deadline, said[max(0, len(said)-2000):])
		}
	}
}

func (s *Server) launch() {
	s.t.Helper()
	log, err := os.OpenFile(filepath.Join(s.Directory, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	cmd, exited := s.as(context.Background(), s.command...), make(chan struct{})
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.cmd, s.exited = cmd, exited
	go func() {
		_ = cmd.Wait() // says that it was killed
		close(exited)
	}()
}

// Running tells whether the server was started and not killed.
func (s *Server) Running() bool { return s.cmd != nil }

// Kill ends the server and all of its processes as a power cut does. It may be called again.
func (s *Server) Kill() {
	if s.cmd == nil {
		return
	}
	pid := s.cmd.Process.Pid
	// PostgreSQL's children leave its process group. A stopped parent has no new ones.
	_ = syscall.Kill(pid, syscall.SIGSTOP)
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	for _, word := range strings.Fields(string(children)) {
		if child, err := strconv.Atoi(word); err == nil {
			_ = syscall.Kill(child, syscall.SIGKILL)
		}
	}
	_ = syscall.Kill(-pid, syscall.SIGKILL)
	<-s.exited
	s.cmd = nil
}

// Disk is an empty file system of so many bytes that the server may write to, its path. It goes with the test.
func (s *Server) Disk(size int) string {
	s.t.Helper()
	path := filepath.Join(s.Directory, "disk")
	if err := os.Mkdir(path, 0o700); err != nil {
		s.t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", path, "tmpfs", 0, fmt.Sprintf("size=%d,mode=700,uid=%d,gid=%d", size, s.uid, s.gid)); err != nil {
		s.t.Fatalf("mount %s: %v", path, err)
	}
	s.t.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) })
	return path
}

// SQL runs statements as the administrator, with the server's own client, and returns what it prints.
func (s *Server) SQL(statements string) string {
	s.t.Helper()
	out, err := s.Try(statements)
	if err != nil {
		s.t.Fatalf("%s: %v\n%s", statements, err, out)
	}
	return out
}

// Try is SQL for statements that may fail.
func (s *Server) Try(statements string) (string, error) {
	cmd := s.Client(context.Background())
	cmd.Stdin = strings.NewReader(statements)
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// Client is the server's own client, to be started, and to end with ctx: it reads statements from its input as the administrator, and answers
// each at once, a line for a row and | between PostgreSQL's columns, a tab between MariaDB's.
func (s *Server) Client(ctx context.Context) *exec.Cmd {
	if s.Socket != "" {
		return s.as(ctx, "mariadb", "--no-defaults", "-S", s.Socket, "-u", "root", "-N", "-B", "-n", "picosnitch")
	}
	return s.as(ctx, "psql", "-h", s.Sockets, "-p", strconv.Itoa(s.Port), "-U", "admin", "-v", "ON_ERROR_STOP=1", "-qAt", "picosnitch")
}

// as is a command that runs as the server's user, in a process group of its own, and dies with the test. Its temporary files
// are its own: MariaDB removes those of others from a shared directory when it starts.
func (s *Server) as(ctx context.Context, command ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Dir = s.Directory
	cmd.Env = []string{"PATH=" + os.Getenv("PATH") + ":/usr/sbin", "LC_ALL=C.UTF-8", "HOME=" + s.Directory, "TMPDIR=" + s.Directory}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL,
		Credential: &syscall.Credential{Uid: uint32(s.uid), Gid: uint32(s.gid)}}
	return cmd
}

func (s *Server) run(command ...string) {
	s.t.Helper()
	if out, err := s.as(context.Background(), command...).CombinedOutput(); err != nil {
		s.t.Fatalf("%v: %v\n%s", command, err, out)
	}
}

func (s *Server) try(command ...string) error { return s.as(context.Background(), command...).Run() }

func (s *Server) own(path string) {
	s.t.Helper()
	if err := os.Chown(path, s.uid, s.gid); err != nil {
		s.t.Fatal(err)
	}
}

func (s *Server) write(path, contents string) {
	s.t.Helper()
	if err := os.WriteFile(path, []byte(contents), 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.own(path)
}

func (s *Server) file(name, contents string) string {
	path := filepath.Join(s.Directory, name)
	s.write(path, contents)
	return path
}
