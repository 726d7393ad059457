package lab

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/picosnitch/picosnitch/sdk"
	"github.com/picosnitch/picosnitch/test/lab/script"
)

// actor is one program image that speaks, or spoke, on a puppet's pipes.
type actor struct {
	process  script.Process
	identity Identity
	parent   Identity
	waiting  bool // spawned the one above and waits for its end
}

// puppet is a generator under control: what it does is what the case tells it, call by call.
type puppet struct {
	lab    *Lab
	cmd    *exec.Cmd
	in     *os.File
	out    *os.File
	lines  *bufio.Reader
	actors []actor // the last one speaks
	ended  bool
}

// launch says how a generator is born.
type launch struct {
	space *Space
	path  string
	args  []string // after argument 0
	uid   int
	wrap  []string // a command that runs it as its child
}

// credential is how it becomes its user; nil: it stays root.
func (l launch) credential() *syscall.SysProcAttr {
	if l.uid == 0 {
		return nil
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(l.uid), Gid: uint32(l.uid)}}
}

// startPuppet starts a generator and waits for its greeting.
func startPuppet(l *Lab, how launch) (*puppet, error) {
	parent := l.Self
	if len(how.wrap) > 0 {
		sum, err := l.hash(how.wrap[0])
		if err != nil {
			return nil, err
		}
		parent = Identity{Exe: how.wrap[0], SHA256: sum, Name: filepath.Base(how.wrap[0])}
		how.path, how.args = how.wrap[0], slices.Concat(how.wrap[1:], []string{how.path}, how.args)
		parent.Cmdline = commandLine(append([]string{how.path}, how.args...))
	}
	inRead, inWrite, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make pipe: %w", err)
	}
	defer inRead.Close()
	outRead, outWrite, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make pipe: %w", err), inWrite.Close())
	}
	defer outWrite.Close()
	p := &puppet{lab: l, in: inWrite, out: outRead, lines: bufio.NewReader(outRead)}
	p.cmd = exec.Command(how.path, how.args...)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = inRead, outWrite, os.Stderr
	p.cmd.Env, p.cmd.Dir = []string{}, "/"
	p.cmd.SysProcAttr = how.credential()
	if err := how.space.Do(p.cmd.Start); err != nil {
		return nil, errors.Join(fmt.Errorf("start generator: %w", err), p.closePipes())
	}
	if err := p.greet(parent); err != nil {
		p.discard()
		return nil, err
	}
	return p, nil
}

func (p *puppet) closePipes() error { return errors.Join(p.in.Close(), p.out.Close()) }

// discard ends a puppet whose case has failed.
func (p *puppet) discard() {
	if p.ended {
		return
	}
	p.ended = true
	_ = p.closePipes() // the end of input ends it, and what it spawned
	if p.cmd.Process != nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	}
}

// greet takes the greeting of a program that has just started, and asks it for its hash.
func (p *puppet) greet(parent Identity) error {
	r, err := p.read()
	if err != nil {
		return err
	}
	if !r.Hello || r.Process == nil {
		return fmt.Errorf("generator: no greeting but %+v", r)
	}
	if err := p.write(script.Command{Do: script.Self}); err != nil {
		return err
	}
	if r, err = p.read(); err != nil {
		return err
	}
	if r.Process == nil {
		return fmt.Errorf("generator: asked for itself, answers %+v", r)
	}
	p.actors = append(p.actors, actor{process: *r.Process, identity: identityOf(*r.Process), parent: parent})
	return nil
}

func identityOf(s script.Process) Identity {
	return Identity{Exe: sdk.Escape(s.Exe), SHA256: s.SHA256, Name: sdk.Escape(s.Name), Cmdline: commandLine(s.Args)}
}

func (p *puppet) current() *actor { return &p.actors[len(p.actors)-1] }

func (p *puppet) write(c script.Command) error {
	line, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("encode command: %w", err)
	}
	if _, err := p.in.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("tell generator: %w", err)
	}
	return nil
}

func (p *puppet) read() (script.Reply, error) {
	var r script.Reply
	if err := p.out.SetReadDeadline(time.Now().Add(Deadline())); err != nil {
		return r, fmt.Errorf("set deadline: %w", err)
	}
	line, err := p.lines.ReadBytes('\n')
	if err != nil {
		return r, fmt.Errorf("hear generator: %w", err)
	}
	if err := json.Unmarshal(line, &r); err != nil {
		return r, fmt.Errorf("decode reply %q: %w", line, err)
	}
	if r.Error != "" {
		return r, fmt.Errorf("generator: %s", r.Error)
	}
	return r, nil
}

// do runs one command. A system call that failed is an answer (Reply.Errno), not an error.
func (p *puppet) do(c script.Command) (script.Reply, error) {
	if err := p.write(c); err != nil {
		return script.Reply{}, err
	}
	r, err := p.read()
	if err != nil {
		err = fmt.Errorf("%s %s: %w", c.Do, c.Name, err)
	}
	return r, err
}

// exec replaces the program image: the same process and parent, another identity. It returns the old image's account.
func (p *puppet) exec(path string, args ...string) (*script.Account, error) {
	r, err := p.do(script.Command{Do: script.Facts})
	if err != nil {
		return nil, err
	}
	if err := p.write(script.Command{Do: script.Exec, Path: path, Args: append([]string{path}, args...)}); err != nil {
		return nil, err
	}
	return r.Facts, p.greet(p.current().parent)
}

// spawn gives the conversation to a child. Without leave the parent goes on after the child's end.
func (p *puppet) spawn(leave bool, path string, args ...string) error {
	parent := p.current()
	parent.waiting = !leave
	c := script.Command{Do: script.Spawn, Leave: leave, Path: path, Args: append([]string{path}, args...)}
	if err := p.write(c); err != nil {
		return err
	}
	if leave { // the child speaks only when the parent is gone for good
		if err := p.cmd.Wait(); err != nil {
			return fmt.Errorf("wait for parent: %w", err)
		}
	}
	return p.greet(parent.identity)
}

// finish ends the speaking program and returns its account. When it had a waiting parent, that one speaks again.
func (p *puppet) finish() (*script.Account, error) {
	r, err := p.do(script.Command{Do: script.Exit})
	if err != nil {
		return nil, err
	}
	done := p.current().process.Pid
	p.actors = p.actors[:len(p.actors)-1]
	if len(p.actors) > 0 && p.current().waiting {
		p.current().waiting = false
		_, err := p.read() // the parent's answer to spawn
		return r.Facts, err
	}
	p.ended = true
	if err := p.closePipes(); err != nil {
		return nil, err
	}
	if p.cmd.ProcessState != nil || p.cmd.Process.Pid != done { // an orphan is not ours to wait for
		return r.Facts, nil
	}
	if err := p.cmd.Wait(); err != nil {
		return nil, fmt.Errorf("wait for generator: %w", err)
	}
	return r.Facts, nil
}

// shortLived runs a whole script in a process that gets it all at once and is gone as fast as it can. The hash is the
// lab's own: hashing would prolong the process's life.
func shortLived(l *Lab, how launch, steps []script.Command) (*script.Account, actor, error) {
	cmd := exec.Command(how.path, how.args...)
	cmd.Env, cmd.Dir, cmd.Stderr = []string{}, "/", os.Stderr
	cmd.SysProcAttr = how.credential()
	in, inWrite, err := os.Pipe()
	if err != nil {
		return nil, actor{}, fmt.Errorf("make pipe: %w", err)
	}
	defer in.Close()
	for _, c := range steps {
		if err := json.NewEncoder(inWrite).Encode(c); err != nil { // fits into the pipe: a few hundred bytes
			return nil, actor{}, errors.Join(err, inWrite.Close())
		}
	}
	if err := inWrite.Close(); err != nil {
		return nil, actor{}, err
	}
	cmd.Stdin = in
	var out []byte
	if err := how.space.Do(func() error { out, err = cmd.Output(); return err }); err != nil {
		return nil, actor{}, fmt.Errorf("run generator: %w", err)
	}
	return lastAccount(l, out)
}

func lastAccount(l *Lab, out []byte) (*script.Account, actor, error) {
	decoder := json.NewDecoder(bytes.NewReader(out))
	var account *script.Account
	for {
		var r script.Reply
		err := decoder.Decode(&r)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, actor{}, fmt.Errorf("decode reply: %w", err)
		}
		if r.Error != "" || r.Errno != "" {
			return nil, actor{}, fmt.Errorf("generator: %s%s", r.Error, r.Errno)
		}
		account = r.Facts
	}
	if account == nil {
		return nil, actor{}, errors.New("generator gave no account")
	}
	sum, err := l.hash(string(account.Process.Exe))
	account.Process.SHA256 = sum
	return account, actor{process: account.Process, identity: identityOf(account.Process), parent: l.Self}, err
}
