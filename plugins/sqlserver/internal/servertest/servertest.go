// Package servertest starts real PostgreSQL and MariaDB servers for tests: each in a directory of its own, as a user of its
// own, on a socket in that directory and a port of the loopback interface with TLS, and ends them with the test.
package servertest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
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
	Directory string // holds the socket, for PostgreSQL
	Socket    string // path of the socket, for MariaDB
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
	bin := postgresBin(t)
	s := prepare(t, "postgres")
	data := filepath.Join(s.Directory, "data")
	s.run(filepath.Join(bin, "initdb"), "-D", data, "-U", "admin", "-A", "scram-sha-256", "--auth-local=trust", "-E", "UTF8",
		"--locale=C", "-N", "--pwfile", s.file("password", "admin"))
	s.write(filepath.Join(data, "pg_hba.conf"), "local all admin trust\nlocal all all scram-sha-256\nhostssl all all 127.0.0.1/32 scram-sha-256\n")
	s.User = "admin"
	s.command = []string{filepath.Join(bin, "postgres"), "-D", data, "-k", s.Directory, "-h", "127.0.0.1", "-p", strconv.Itoa(s.Port),
		"-c", "ssl=on", "-c", "ssl_cert_file=" + filepath.Join(s.Directory, "server.pem"),
		"-c", "ssl_key_file=" + filepath.Join(s.Directory, "server.key"), "-c", "shared_buffers=64MB", "-c", "max_wal_size=2GB"}
	s.ready = func() error {
		return s.try("psql", "-h", s.Directory, "-p", strconv.Itoa(s.Port), "-U", "admin", "-c", "SELECT 1", "postgres")
	}
	s.Start()
	s.run("psql", "-h", s.Directory, "-p", strconv.Itoa(s.Port), "-U", "admin", "-c", "CREATE DATABASE picosnitch", "postgres")
	return s
}

// postgresBin is where Debian keeps the newest server's programs, which are not in PATH.
func postgresBin(t testing.TB) string {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil || len(found) == 0 {
		t.Fatal("no PostgreSQL server; install the package postgresql (test/deps.sh does)")
	}
	return filepath.Dir(found[len(found)-1])
}

// MariaDB starts one.
func MariaDB(t testing.TB) *Server {
	t.Helper()
	if _, err := exec.LookPath("mariadbd"); err != nil {
		t.Fatal("no MariaDB server; install the package mariadb-server (test/deps.sh does)")
	}
	s := prepare(t, "mysql")
	data := filepath.Join(s.Directory, "data")
	s.User, s.Socket = "root", filepath.Join(s.Directory, "socket")
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
	if err != nil {
		t.Fatalf("%v; install postgresql and mariadb-server", err)
	}
	// Not t.TempDir: the path of a socket has room for 107 bytes, and the server's user must get there.
	directory, err := os.MkdirTemp("", "sqlserver")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Directory: directory, t: t, CA: filepath.Join(directory, "ca.pem")}
	s.uid, _ = strconv.Atoi(account.Uid)
	s.gid, _ = strconv.Atoi(account.Gid)
	t.Cleanup(func() {
		s.Kill()
		_ = os.RemoveAll(directory)
	})
	s.own(directory)
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
	cmd, exited := s.as(s.command...), make(chan struct{})
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
	cmd := s.as("psql", "-h", s.Directory, "-p", strconv.Itoa(s.Port), "-U", "admin", "-v", "ON_ERROR_STOP=1", "-qAt", "picosnitch")
	if s.Socket != "" {
		cmd = s.as("mariadb", "--no-defaults", "-S", s.Socket, "-u", "root", "-N", "-B", "picosnitch")
	}
	cmd.Stdin = strings.NewReader(statements)
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// as is a command that runs as the server's user, in a process group of its own, and dies with the test. Its temporary files
// are its own: MariaDB removes those of others from a shared directory when it starts.
func (s *Server) as(command ...string) *exec.Cmd {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir = s.Directory
	cmd.Env = []string{"PATH=" + os.Getenv("PATH") + ":/usr/sbin", "LC_ALL=C.UTF-8", "HOME=" + s.Directory, "TMPDIR=" + s.Directory}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL,
		Credential: &syscall.Credential{Uid: uint32(s.uid), Gid: uint32(s.gid)}}
	return cmd
}

func (s *Server) run(command ...string) {
	s.t.Helper()
	if out, err := s.as(command...).CombinedOutput(); err != nil {
		s.t.Fatalf("%v: %v\n%s", command, err, out)
	}
}

func (s *Server) try(command ...string) error { return s.as(command...).Run() }

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

// certificates makes a certification authority and a certificate of it for localhost.
func (s *Server) certificates() {
	s.t.Helper()
	authority := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: authority.NotBefore, NotAfter: authority.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	authorityKey, leafKey := s.key(), s.key()
	s.certificate("ca.pem", authority, authority, authorityKey, authorityKey)
	s.certificate("server.pem", leaf, authority, leafKey, authorityKey)
	der, err := x509.MarshalPKCS8PrivateKey(leafKey)
	if err != nil {
		s.t.Fatal(err)
	}
	s.file("server.key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
}

func (s *Server) key() *ecdsa.PrivateKey {
	s.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	return key
}

func (s *Server) certificate(name string, of, by *x509.Certificate, key, signer *ecdsa.PrivateKey) {
	s.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, of, by, &key.PublicKey, signer)
	if err != nil {
		s.t.Fatal(err)
	}
	s.file(name, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
}

// PostgresConfig are settings for a user of this server, if it is PostgreSQL; extra are further ones, JSON.
func (s *Server) PostgresConfig(user, password, extra string) string {
	return fmt.Sprintf(`{"client": "psycopg", "host": "localhost", "hostaddr": "127.0.0.1", "port": %d, "dbname": "picosnitch", "user": %q,
		"password": %q, "sslmode": "verify-full", "sslrootcert": %q, "connect_timeout": 5%s}`, s.Port, user, password, s.CA, extra)
}

// MariaDBConfig is the same for MariaDB.
func (s *Server) MariaDBConfig(user, password, extra string) string {
	return fmt.Sprintf(`{"client": "mariadb", "host": "localhost", "port": %d, "database": "picosnitch", "user": %q, "password": %q,
		"ssl_ca": %q, "ssl_verify_cert": true, "connect_timeout": 5%s}`, s.Port, user, password, s.CA, extra)
}

// SocketConfig are settings for the administrator, through the socket.
func (s *Server) SocketConfig(extra string) string {
	if s.Socket != "" {
		return fmt.Sprintf(`{"client": "pymysql", "unix_socket": %q, "db": "picosnitch", "user": "root"%s}`, s.Socket, extra)
	}
	return fmt.Sprintf(`{"client": "psycopg2", "host": %q, "port": %d, "database": "picosnitch", "user": "admin"%s}`, s.Directory, s.Port, extra)
}

// Authority writes a certificate that no server's is signed with, and returns its path.
func Authority(t testing.TB) string {
	t.Helper()
	s := &Server{Directory: t.TempDir(), t: t, uid: os.Getuid(), gid: os.Getgid()}
	s.certificates()
	return filepath.Join(s.Directory, "ca.pem")
}
