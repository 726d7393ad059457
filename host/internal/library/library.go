package library

import (
	"context"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/picosnitch/picosnitch/host/internal/capture"
)

const (
	maxSpaces  = 1024  // mount namespaces known at once
	maxMembers = 65536 // processes of all of them
	maxFollow  = 64    // libraries
	maxOfUser  = 8     // of those that processes of one user have brought; root's have no such bound
	maxLooks   = 64    // that wait

	settle    = 100 * time.Millisecond // from exec until a program has mapped its library
	lookAgain = 10 * time.Second       // at a namespace in which a library was found
)

// Options is what [New] needs; all of it.
type Options struct {
	ProcRoot string // /proc
	Home     uint32 // the host's own mount namespace
	// Symbol finds the offset of getaddrinfo in a library. It must not trust the file.
	Symbol func(context.Context, *os.File) (uint64, error)
	// Follow attaches probes at the offset; closing what it gives detaches them.
	Follow func(library *os.File, offset uint64) (io.Closer, error)
	// Known tells that capture follows a file already.
	Known func(device, inode uint64) bool
	Log   *slog.Logger
}

// Libraries knows which mount namespaces there are and which libraries are followed for them.
type Libraries struct {
	options Options
	looks   chan look
	spare   chan struct{} // holds one: there is something to detach
	cancel  context.CancelFunc
	ended   sync.WaitGroup

	mu       sync.Mutex
	spaces   map[uint32]*space
	of       map[capture.Key]uint32 // namespace of each member
	followed map[file]*followed
	dropped  []io.Closer // to be detached
}

// space is a mount namespace with live processes.
type space struct {
	members int
	found   bool // a library of it is followed
	looked  time.Time
}

// followed is a library and who uses it.
type followed struct {
	probes io.Closer
	uid    uint32 // of the process that brought it
	spaces map[uint32]bool
}

type look struct {
	pid, namespace, uid uint32
	due                 time.Time
}

// New begins to follow. The caller closes it.
func New(o Options) *Libraries {
	ctx, cancel := context.WithCancel(context.Background())
	l := &Libraries{
		options: o, looks: make(chan look, maxLooks), spare: make(chan struct{}, 1), cancel: cancel,
		spaces: map[uint32]*space{}, of: map[capture.Key]uint32{}, followed: map[file]*followed{},
	}
	l.ended.Go(func() { l.run(ctx) })
	return l
}

// Close detaches everything.
func (l *Libraries) Close() {
	l.cancel()
	l.ended.Wait()
	for _, f := range l.followed {
		l.detach(f.probes)
	}
	for _, probes := range l.dropped {
		l.detach(probes)
	}
}

// Saw tells of a process that began or was there. It does not block.
func (l *Libraries) Saw(p *capture.Process) {
	if p.Kernel || p.Exited != 0 || p.MountNS == 0 || p.MountNS == l.options.Home {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.spaces[p.MountNS]
	if _, twice := l.of[p.Key]; twice || len(l.of) >= maxMembers || s == nil && len(l.spaces) >= maxSpaces {
		return
	}
	if s == nil {
		s = &space{}
		l.spaces[p.MountNS] = s
	}
	s.members++
	l.of[p.Key] = p.MountNS
	now := time.Now()
	if p.Forked || s.found && now.Sub(s.looked) < lookAgain {
		return
	}
	select {
	case l.looks <- look{pid: p.Key.Tgid, namespace: p.MountNS, uid: p.UID, due: now.Add(settle)}:
		s.looked = now
	default: // the next program of the namespace will do
	}
}

// End tells that a process has ended. It does not block.
func (l *Libraries) End(key capture.Key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	namespace, member := l.of[key]
	if !member {
		return
	}
	delete(l.of, key)
	s := l.spaces[namespace]
	if s.members--; s.members > 0 {
		return
	}
	delete(l.spaces, namespace)
	for id, f := range l.followed {
		delete(f.spaces, namespace)
		if len(f.spaces) > 0 {
			continue
		}
		delete(l.followed, id)
		l.dropped = append(l.dropped, f.probes)
		select {
		case l.spare <- struct{}{}:
		default:
		}
	}
}

// run does what may wait.
func (l *Libraries) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.spare:
			l.mu.Lock()
			dropped := l.dropped
			l.dropped = nil
			l.mu.Unlock()
			for _, probes := range dropped {
				l.detach(probes)
			}
		case at := <-l.looks:
			select {
			case <-time.After(time.Until(at.due)):
				l.visit(ctx, at)
			case <-ctx.Done():
			}
		}
	}
}

func (l *Libraries) detach(probes io.Closer) {
	if err := probes.Close(); err != nil {
		l.options.Log.Warn("let go of a C library", "error", err)
	}
}
