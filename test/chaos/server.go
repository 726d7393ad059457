package chaos

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/test/lab"
	"github.com/picosnitch/picosnitch/test/need"
)

// Server is a PostgreSQL server in a directory of its own, with an empty database called "picosnitch" and a user "admin".
type Server struct {
	Port int

	dir      string
	programs string // where Debian keeps them
	account  *syscall.Credential
	cmd      *exec.Cmd
	done     chan struct{} // closed when cmd has ended
}

// NewServer starts one below base, until t ends.
func NewServer(t *testing.T, base string) *Server {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	need.Have(t, "a PostgreSQL server (Debian package postgresql)", err == nil && len(found) > 0)
	account, err := user.Lookup("postgres")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(account.Uid) // numbers, on Linux
	gid, _ := strconv.Atoi(account.Gid)
	s := &Server{
		dir: filepath.Join(base, "server"), programs: filepath.Dir(found[len(found)-1]),
		account: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)},
	}
	if err := errors.Join(os.Mkdir(s.dir, 0o700), os.Chown(s.dir, uid, gid), s.prepare()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	if err := errors.Join(s.Start(), s.run("createdb", "-h", s.dir, "-p", strconv.Itoa(s.Port), "-U", "admin", "picosnitch")); err != nil {
		t.Fatal(err)
	}
	return s
}

// prepare makes the data directory and finds a free port.
func (s *Server) prepare() error {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("find a port: %w", err)
	}
	s.Port = listener.Addr().(*net.TCPAddr).Port
	if err := listener.Close(); err != nil {
		return err
	}
	return s.run("initdb", "-D", filepath.Join(s.dir, "data"), "-U", "admin", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
}

func (s *Server) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(s.programs, program), args...)
	cmd.Dir = s.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.account, Pdeathsig: syscall.SIGKILL}
	return cmd
}

func (s *Server) run(program string, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*lab.Deadline())
	defer cancel()
	if out, err := s.command(ctx, program, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", program, err, out)
	}
	return nil
}

// Start starts it and waits until it answers. One that ends at once is started again: the processes of the one before may
// hold its memory for a moment.
func (s *Server) Start() error {
	for end := time.Now().Add(2 * lab.Deadline()); ; time.Sleep(50 * time.Millisecond) {
		if s.cmd == nil {
			if err := s.launch(); err != nil {
				return err
			}
		}
		if s.run("pg_isready", "-q", "-h", s.dir, "-p", strconv.Itoa(s.Port)) == nil {
			return nil
		}
		select {
		case <-s.done:
			s.cmd = nil
		default:
		}
		if time.Now().After(end) {
			return errors.Join(fmt.Errorf("SQL server does not answer after %v", 2*lab.Deadline()), s.Stop())
		}
	}
}

func (s *Server) launch() error {
	cmd := s.command(context.Background(), "postgres", "-D", filepath.Join(s.dir, "data"), "-k", s.dir, "-h", "127.0.0.1",
		"-p", strconv.Itoa(s.Port), "-c", "shared_buffers=32MB")
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start SQL server: %w", err)
	}
	done := make(chan struct{})
	go func() { // ends with the process, which Stop waits for
		_ = cmd.Wait() // how it ended is of no interest
		close(done)
	}()
	s.cmd, s.done = cmd, done
	return nil
}

// Stop ends it at once, as a crash would: connections break, and the next start recovers. It returns when all of its
// processes have seen that.
func (s *Server) Stop() error {
	if s.cmd == nil {
		return nil
	}
	if err := s.cmd.Process.Signal(unix.SIGQUIT); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop SQL server: %w", err)
	}
	select {
	case <-s.done:
	case <-time.After(lab.Deadline()):
		return errors.Join(fmt.Errorf("SQL server still runs after %v", lab.Deadline()), s.cmd.Process.Kill())
	}
	s.cmd = nil
	return nil
}

// settings are for `DB sql server`.
func (s *Server) settings() map[string]any {
	return map[string]any{
		"client": "psycopg", "host": "127.0.0.1", "port": s.Port, "user": "admin", "password": "admin", "database": "picosnitch",
		"connect_timeout": 5,
	}
}

// read asks for the rows of a case and for all gaps, as lines of JSON.
func (s *Server) read(ctx context.Context, directory string) (Contents, error) {
	var out Contents
	for kind, table := range map[string]string{"flow": "connections", "gap": "connections_gaps"} {
		query := fmt.Sprintf(`SELECT to_jsonb(r) || '{"kind":"%s"}' FROM %q r`, kind, table)
		raw, err := s.command(ctx, "psql", "-h", s.dir, "-p", strconv.Itoa(s.Port), "-U", "admin", "-At", "-c", query, "picosnitch").Output()
		if err != nil {
			return Contents{}, fmt.Errorf("ask SQL server: %w%s", err, saidOf(err))
		}
		if err := out.addLines(raw, directory); err != nil {
			return Contents{}, fmt.Errorf("ask SQL server: %w", err)
		}
	}
	return out, nil
}

// saidOf is what a program that failed wrote.
func saidOf(err error) string {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return ": " + string(exit.Stderr)
	}
	return ""
}

func (c *Contents) addLines(raw []byte, directory string) error {
	for l, err := range decodeLines(raw) {
		if err != nil {
			return err
		}
		c.add(l, directory)
	}
	return nil
}
