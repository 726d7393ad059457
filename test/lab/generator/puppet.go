package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/test/lab/script"
)

// inheritVariable names the sockets that an earlier program image, or the parent, left open: "name=fd:net,…".
const inheritVariable = "LAB_SOCKETS"

// puppet is this process: its sockets and its account.
type puppet struct {
	self    script.Process
	sockets map[string]*socket
	ledger  *ledger
	stop    chan struct{} // closed by halt
	workers sync.WaitGroup
	gone    bool             // another process speaks from now on
	rings   map[uint32]*ring // by flags; they end with the process
	mapped  uint64           // bytes that TCP_ZEROCOPY_RECEIVE mapped
	mailbox int              // descriptor that Take receives from
	tun     int              // descriptor that Inject writes to
}

func newPuppet() (*puppet, error) {
	p := &puppet{sockets: map[string]*socket{}, ledger: newLedger(), stop: make(chan struct{}), rings: map[uint32]*ring{}}
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return nil, fmt.Errorf("read own executable: %w", err)
	}
	name, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		return nil, fmt.Errorf("read own name: %w", err)
	}
	var ns unix.Stat_t
	if err := unix.Stat("/proc/self/ns/net", &ns); err != nil {
		return nil, fmt.Errorf("stat own network namespace: %w", err)
	}
	p.self = script.Process{
		Pid: os.Getpid(), Parent: os.Getppid(), UID: os.Getuid(), Args: arguments(), Exe: []byte(exe),
		Name: bytes.TrimSuffix(name, []byte("\n")), Netns: ns.Ino,
	}
	return p, p.inherit()
}

func arguments() [][]byte {
	var out [][]byte
	for _, a := range os.Args {
		out = append(out, []byte(a))
	}
	return out
}

// inherit takes over the sockets that [puppet.heritage] described.
func (p *puppet) inherit() error {
	for entry := range strings.FieldsSeq(os.Getenv(inheritVariable)) {
		name, rest, _ := strings.Cut(entry, "=")
		var fd int
		var network string
		if _, err := fmt.Sscanf(rest, "%d:%s", &fd, &network); err != nil {
			return fmt.Errorf("read %s entry %q: %w", inheritVariable, entry, err)
		}
		s, err := adopt(fd, network)
		if err != nil {
			return fmt.Errorf("take over socket %s: %w", name, err)
		}
		p.sockets[name] = s
	}
	return nil
}

// heritage is the environment for a program that shall know our sockets.
func (p *puppet) heritage() []string {
	var entries []string
	for name, s := range p.sockets {
		entries = append(entries, fmt.Sprintf("%s=%d:%s", name, s.fd, s.network))
	}
	return []string{inheritVariable + "=" + strings.Join(entries, " ")}
}

func (p *puppet) tell(r script.Reply) error {
	if p.gone { // the child's voice counts now
		return nil
	}
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode reply: %w", err)
	}
	if _, err := os.Stdout.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("write reply: %w", err)
	}
	return nil
}

func (p *puppet) account() *script.Account {
	return &script.Account{Process: p.self, Flows: p.ledger.list()}
}

// leave ends the puppet: background work stops first, so that the last account is final.
func (p *puppet) leave() error {
	p.halt()
	return p.tell(script.Reply{Facts: p.account()})
}

func (p *puppet) halt() {
	close(p.stop)
	p.workers.Wait()
	p.stop = make(chan struct{})
}

func (p *puppet) reportSelf(r *script.Reply) error {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("open own executable: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return fmt.Errorf("hash own executable: %w", err)
	}
	p.self.SHA256 = hex.EncodeToString(h.Sum(nil))
	self := p.self
	r.Process = &self
	return nil
}
