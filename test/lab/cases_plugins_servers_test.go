package lab

import (
	"bufio"
	"fmt"
	"io"
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

// server is a database server of the lab's own: directory, port, user, and a database called picosnitch.
type server struct {
	t        *testing.T
	dir      string
	port     int
	socket   string   // of MariaDB; empty for PostgreSQL, whose name follows from the port
	command  []string // starts it
	client   []string // reads SQL from its input, as the administrator
	lock     string   // SQL that lets nobody write to connections until its session ends
	uid, gid uint32
	cmd      *exec.Cmd
	ended    chan struct{} // closed when cmd has ended
}

// postgreSQL starts one.
func postgreSQL(t *testing.T) *server {
	t.Helper()
	found := glob("/usr/lib/postgresql/*/bin")
	need.Have(t, "PostgreSQL (Debian package postgresql)", len(found) > 0)
	bin := found[len(found)-1]
	s := newServer(t, "postgres")
	data, password := filepath.Join(s.dir, "data"), filepath.Join(s.dir, "password")
	if err := os.WriteFile(password, []byte("secret of the lab"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.run(filepath.Join(bin, "initdb"), "-D", data, "-U", "admin", "-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "-N",
		"--pwfile", password)
	s.command = []string{filepath.Join(bin, "postgres"), "-D", data, "-k", s.sockets(), "-h", "127.0.0.1", "-p", strconv.Itoa(s.port)}
	s.client = []string{"psql", "-h", s.sockets(), "-p", strconv.Itoa(s.port), "-U", "admin", "-v", "ON_ERROR_STOP=1", "-qAt", "-F", "\t", "postgres"}
	s.start()
	s.ask("CREATE DATABASE picosnitch")
	s.client[len(s.client)-1] = "picosnitch"
	s.lock = "BEGIN; LOCK TABLE connections_batches IN EXCLUSIVE MODE;"
	return s
}

// mariaDB starts one.
func mariaDB(t *testing.T) *server {
	t.Helper()
	_, err := exec.LookPath("mariadbd")
	need.Have(t, "MariaDB (Debian package mariadb-server)", err == nil)
	s := newServer(t, "mysql")
	data := filepath.Join(s.dir, "data")
	s.socket = filepath.Join(s.sockets(), "s")
	s.run("mariadb-install-db", "--no-defaults", "--datadir="+data, "--auth-root-authentication-method=normal", "--skip-test-db",
		"--skip-name-resolve")
	s.command = []string{"mariadbd", "--no-defaults", "--datadir=" + data, "--socket=" + s.socket, "--port=" + strconv.Itoa(s.port),
		"--bind-address=127.0.0.1", "--pid-file=" + filepath.Join(s.dir, "pid"), "--skip-name-resolve"}
	s.client = []string{"mariadb", "--no-defaults", "-S", s.socket, "-u", "root", "-N", "-B", "-n", "mysql"}
	s.start()
	s.ask("CREATE DATABASE picosnitch CHARACTER SET utf8mb4; CREATE USER keeper IDENTIFIED BY 'secret of the lab';" +
		"GRANT CREATE, CREATE VIEW, INSERT, SELECT ON picosnitch.* TO keeper")
	s.client[len(s.client)-1] = "picosnitch"
	s.lock = "FLUSH TABLES WITH READ LOCK;"
	return s
}

// newServer makes the directory, which belongs to the account that Debian's package made. The server ends with the test.
func newServer(t *testing.T, account string) *server {
	t.Helper()
	who, err := user.Lookup(account)
	need.Have(t, "the user "+account, err == nil)
	s := &server{t: t}
	for _, id := range []struct {
		text string
		to   *uint32
	}{{who.Uid, &s.uid}, {who.Gid, &s.gid}} {
		n, err := strconv.ParseUint(id.text, 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		*id.to = uint32(n)
	}
	s.dir = filepath.Join(trusted(t), "s") // a socket's path has room for 107 bytes
	for _, dir := range []string{s.dir, s.sockets()} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(dir, int(s.uid), int(s.gid)); err != nil {
			t.Fatal(err)
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.port = listener.Addr().(*net.TCPAddr).Port
	_ = listener.Close()
	t.Cleanup(s.kill)
	return s
}

// sockets is the directory of the server's socket, apart from its data: it is what a plugin gets to see.
func (s *server) sockets() string { return filepath.Join(s.dir, "r") }

// start starts the server, again after its end, and waits until it answers. One that ends at once is started again: what is
// left of one that was killed may hold its memory for a moment.
func (s *server) start() {
	s.t.Helper()
	s.launch()
	for end := time.Now().Add(2 * Deadline()); ; time.Sleep(50 * time.Millisecond) {
		said, err := s.try("SELECT 1")
		if err == nil {
			return
		}
		select {
		case <-s.ended:
			s.launch()
		default:
		}
		if time.Now().After(end) {
			log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			s.t.Fatalf("server: %v: %s\n%s", err, said, log[max(0, len(log)-2000):])
		}
	}
}

func (s *server) launch() {
	s.t.Helper()
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	cmd, ended := s.as(s.command...), make(chan struct{})
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.cmd, s.ended = cmd, ended
	go func() { // ends with the server, which kill waits for
		_ = cmd.Wait() // says that it was killed
		close(ended)
	}()
}

// kill ends all of the server's processes at once, without a word. It may be called again.
func (s *server) kill() {
	if s.cmd == nil {
		return
	}
	pid := s.cmd.Process.Pid
	_ = unix.Kill(pid, unix.SIGSTOP) // PostgreSQL's children leave its process group; it makes no new ones now
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	for _, word := range strings.Fields(string(children)) {
		if child, err := strconv.Atoi(word); err == nil {
			_ = unix.Kill(child, unix.SIGKILL)
		}
	}
	_ = unix.Kill(-pid, unix.SIGKILL)
	<-s.ended
	s.cmd = nil
}

// as is a command of the server's user, which dies with the lab.
func (s *server) as(command ...string) *exec.Cmd {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH") + ":/usr/sbin", "LC_ALL=C.UTF-8", "HOME=" + s.dir, "PGPASSWORD=secret of the lab"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL, Credential: &syscall.Credential{Uid: s.uid, Gid: s.gid}}
	return cmd
}

func (s *server) run(command ...string) {
	s.t.Helper()
	if out, err := s.as(command...).CombinedOutput(); err != nil {
		s.t.Fatalf("%v: %v\n%s", command, err, out)
	}
}

func (s *server) try(statements string) (string, error) {
	cmd := s.as(s.client...)
	cmd.Stdin = strings.NewReader(statements)
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// ask runs SQL, which has to succeed.
func (s *server) ask(statements string) string {
	s.t.Helper()
	out, err := s.try(statements)
	if err != nil {
		s.t.Fatalf("%s: %v\n%s", statements, err, out)
	}
	return out
}

// hold holds up everything that is written to connections, until release is called.
func (s *server) hold() (release func()) {
	s.t.Helper()
	cmd := s.as(s.client...)
	in, err := cmd.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	release = func() {
		_ = in.Close() // the session ends
		_ = cmd.Wait()
	}
	if _, err := io.WriteString(in, s.lock+" SELECT 'held';\n"); err != nil {
		release()
		s.t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "held\n" {
		release()
		s.t.Fatalf("lock: %q, %v", line, err)
	}
	return release
}

// sums adds up what programs below a directory did, and counts rows and their ids, which must be as many.
func (s *server) sums(dir string) (m moved, ids, rows int) {
	s.t.Helper()
	out, err := s.try("SELECT coalesce(sum(send), 0), coalesce(sum(recv), 0), count(DISTINCT concat(epoch, ' ', seq)), count(*)" +
		" FROM connections WHERE exe LIKE '" + dir + "/%'")
	if err != nil {
		return m, -1, 0 // no table yet, or no server
	}
	if _, err := fmt.Sscanf(out, "%d\t%d\t%d\t%d", &m.Sent, &m.Received, &ids, &rows); err != nil {
		s.t.Fatalf("sums: %v: %s", err, out)
	}
	return m, ids, rows
}
