package identity

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// Forged tells of a process whose link to its program (/proc/PID/exe) shows another file than the one it executes:
// somebody with privileges over it has set it so (decision 41).
type Forged struct {
	Process *wire.Process
	Shown   string // where the link leads, as the process chose: bytes to be escaped
}

// examiners read what a process shows of itself. It can make them wait for ever, so nobody waits long for them.
const (
	examiners   = 2
	claimQueue  = 4096
	claimWait   = 100 * time.Millisecond
	examineNext = int64(60 * 1e9) // boot ns until a process is looked at again
)

// claimRequest asks what a process shows of itself.
type claimRequest struct {
	node  *node
	facts *capture.Process
	done  chan struct{}
}

// examine has a process that uses the network looked at, and returns what to wait for; nil if there is nothing. The caller
// holds the mutex.
func (t *Table) examine(n *node) <-chan struct{} {
	now := t.boot()
	if n.exited != 0 || n.facts.Kernel || (n.examined != nil && now-n.looked < examineNext) || t.workers.ctx.Err() != nil {
		return nil
	}
	r := claimRequest{node: n, facts: n.facts, done: make(chan struct{})}
	select {
	case t.workers.claims <- r:
	default:
		t.counters.ClaimsSkipped++
		return nil
	}
	n.examined, n.looked = r.done, now
	return r.done
}

func (t *Table) boot() int64 {
	if t.options.Now == nil {
		return 0
	}
	return t.options.Now().Boot
}

func (w *workers) runExaminer() {
	for r := range w.claims {
		claimed, shown, ok := w.table.look(r.facts)
		if ok {
			w.table.examinedNode(r.node, claimed, shown)
		}
		close(r.done)
	}
}

// look reads what a process shows now: its command line, if it differs from what was executed, and where its link leads, if
// that is another file. It is false if the process has ended.
func (t *Table) look(p *capture.Process) (claimed *wire.Text, shown string, ok bool) {
	proc := fmt.Sprintf("%s/%d", t.options.ProcRoot, p.Key.Tgid)
	if !startedAt(proc, p.Key.Start) {
		return nil, "", false
	}
	line, err := readSome(proc+"/cmdline", wire.MaxCommandLine+1)
	shown = t.shownInstead(proc+"/exe", p.File)
	if err == nil && shown == "" { // else it may be the command line of what the process has executed since
		claimed = claim(line, p.Arguments)
	}
	return claimed, shown, startedAt(proc, p.Key.Start)
}

// claim is what a process shows as its command line, if it is not the one that was executed, as far as that is known.
func claim(line []byte, executed capture.Text) *wire.Text {
	line = bytes.TrimRight(line, "\x00")
	known := bytes.TrimRight([]byte(executed.Value), "\x00")
	if executed.Length > len(executed.Value) {
		known = []byte(executed.Value)
		line = line[:min(len(line), max(len(known), 1))]
	}
	if len(line) == 0 || bytes.Equal(line, known) {
		return nil
	}
	return text(capture.Text{Value: capture.Bytes(line), Length: len(line)}, wire.MaxCommandLine)
}

// shownInstead tells where a link leads if it is not to the file that was executed.
func (t *Table) shownInstead(link string, executed capture.FileKey) string {
	fd, err := unix.Open(link, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	if !t.isOther(fd, executed) {
		return ""
	}
	target, err := os.Readlink(link)
	if err != nil {
		return ""
	}
	return target[:min(len(target), wire.MaxPath)]
}

// isOther tells whether it is certain that a file is not the one that was executed. What stat cannot be asked about, as on
// FUSE, and its device number alone prove nothing.
func (t *Table) isOther(fd int, executed capture.FileKey) bool {
	if t.compare(fd, executed) != other {
		return false
	}
	if inode, known := kernelInode(fd); known && inode != executed.Inode {
		return true
	}
	if t.options.KernelKey == nil {
		return false
	}
	have, err := t.options.KernelKey(fd)
	return err == nil && likenessOf(have, executed) == other
}

// ticks of the clock that /proc tells start times in, per second; the kernel's interface fixes it.
const ticks = 100

// startedAt tells whether a pid still stands for the process that started then.
func startedAt(proc string, start int64) bool {
	raw, err := readSome(proc+"/stat", 4096)
	if err != nil {
		return false
	}
	// The name, in parentheses, may hold anything; the start time is the 20th field after it.
	fields := bytes.Fields(raw[bytes.LastIndexByte(raw, ')')+1:])
	const startField = 19
	if len(fields) <= startField {
		return false
	}
	at, err := strconv.ParseInt(string(fields[startField]), 10, 64)
	return err == nil && at == start/(int64(time.Second)/ticks)
}

// readSome reads the beginning of a file.
func readSome(path string, limit int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	buffer := make([]byte, limit)
	n, err := io.ReadFull(f, buffer)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read what a process shows: %w", err)
	}
	return buffer[:n], nil
}

// examinedNode takes what look found.
func (t *Table) examinedNode(n *node, claimed *wire.Text, shown string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n.claimed, n.suspect, n.looked = claimed, shown, t.boot()
	n.message = nil
}

// convict reports a process whose link leads elsewhere, if it has executed nothing else until then: what happened before a
// window began has been observed when it is recorded. The caller holds the mutex.
func (t *Table) convict(n *node, boot int64) {
	if n.suspect == "" || n.looked >= boot || n.accused {
		return
	}
	if n.exited == 0 || n.exited > n.looked {
		n.accused = true
		t.counters.Forged++
		t.forged = append(t.forged, Forged{Process: t.message(n), Shown: n.suspect})
	}
}

// Forgeries gives the processes found to be forged since it was called last, each once.
func (t *Table) Forgeries() []Forged {
	t.mu.Lock()
	defer t.mu.Unlock()
	forged := t.forged
	t.forged = nil
	return forged
}
