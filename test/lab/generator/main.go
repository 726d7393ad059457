// Command generator makes traffic for the lab and says exactly what its own calls returned. It is a puppet: commands of
// package script come in on stdin, replies leave on stdout.
//
// # Concurrency
//
// Commands run on the main goroutine; Pump and Drain run beside it until Halt or the end. They share the ledger (a
// mutex).
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/test/lab/script"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "generator:", err)
		os.Exit(1)
	}
}

func run() error {
	p, err := newPuppet()
	if err != nil {
		return err
	}
	if err := p.tell(script.Reply{Hello: true, Process: &p.self}); err != nil {
		return err
	}
	for {
		line, err := readLine(os.Stdin)
		if errors.Is(err, io.EOF) {
			return p.leave()
		}
		if err != nil {
			return fmt.Errorf("read command: %w", err)
		}
		var c script.Command
		if err := json.Unmarshal(line, &c); err != nil {
			return fmt.Errorf("decode command %q: %w", line, err)
		}
		if c.Do == script.Exit {
			return p.leave()
		}
		if err := p.tell(p.perform(c)); err != nil {
			return err
		}
		if p.gone { // a child has taken over stdin and stdout
			return nil
		}
	}
}

// readLine reads byte by byte: what follows the line may belong to another program (exec, spawn).
func readLine(f *os.File) ([]byte, error) {
	var line []byte
	one := make([]byte, 1)
	for {
		if _, err := f.Read(one); err != nil {
			return nil, err
		}
		if one[0] == '\n' {
			return line, nil
		}
		line = append(line, one[0])
	}
}

// perform runs one command. Errors of system calls are facts (Errno), all others say that the script is wrong (Error).
func (p *puppet) perform(c script.Command) script.Reply {
	var r script.Reply
	err := p.dispatch(c, &r)
	var errno unix.Errno
	switch {
	case errors.As(err, &errno):
		r.Errno = unix.ErrnoName(errno)
	case err != nil:
		r.Error = err.Error()
	}
	return r
}

func (p *puppet) dispatch(c script.Command, r *script.Reply) error {
	switch c.Do {
	case script.Self:
		return p.reportSelf(r)
	case script.Facts:
		r.Facts = p.account()
		return nil
	case script.Reset:
		p.ledger.reset()
		return nil
	case script.Halt:
		p.halt()
		return nil
	case script.Exec:
		return p.exec(c)
	case script.Spawn:
		return p.spawn(c)
	case script.Socket:
		return p.open(c, r)
	}
	if done, err := p.withoutSocket(c, r); done {
		return err
	}
	s, ok := p.sockets[c.Name]
	if !ok {
		return fmt.Errorf("%s: no socket %q", c.Do, c.Name)
	}
	err := p.onSocket(c, s, r)
	r.Local, r.Remote, r.FD = text(s.local), text(s.remote), s.fd
	return err
}

// withoutSocket performs the rarer commands that name none.
func (p *puppet) withoutSocket(c script.Command, r *script.Reply) (done bool, err error) {
	switch c.Do {
	case script.Mailbox:
		return true, p.openMailbox(c)
	case script.Take:
		return true, p.take(c)
	case script.Grab:
		return true, p.grab(c)
	case script.Disguise:
		return true, disguise(c.As)
	case script.Unlink:
		return true, unix.Unlink(c.Path)
	case script.Forge:
		return true, forge(c.Path)
	case script.Chatter:
		return true, p.chatter(c)
	case script.Tunnel:
		return true, p.tunnel(c)
	case script.Inject:
		return true, p.inject(c, r)
	case script.Tap:
		return true, tap(c, r)
	case script.BindXDP:
		return true, p.bindXDP(c)
	case script.Storm:
		return true, p.storm(c, r)
	}
	return false, nil
}
