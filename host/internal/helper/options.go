package helper

import (
	"errors"
	"net/netip"
	"time"

	"github.com/picosnitch/picosnitch/host/internal/packages"
)

// Verb is the hidden first argument that makes the host binary call [Main].
const Verb = "__read"

var (
	// ErrTimeout says that the file system did not answer in time, or that the caller's context ended.
	ErrTimeout = errors.New("no answer in time")
	// ErrUnreadable says that the user whose rights were used may not read the file, that reading it failed, or that no
	// helper could be started or lived to answer.
	ErrUnreadable = errors.New("cannot be read")
	// ErrGone says that neither the process nor a file at the path is there.
	ErrGone = errors.New("is gone")
	// ErrChanged says that the file was written while it was read.
	ErrChanged = errors.New("changed while it was read")
	// ErrTooLarge says that the file is longer than the request allows.
	ErrTooLarge = errors.New("is too large")
	// ErrBusy says that the queue is full, or that too many helpers hang, of this user or altogether.
	ErrBusy = errors.New("too many helpers")
	// ErrClosed answers every call after Close.
	ErrClosed = errors.New("helpers are closed")
)

// Options bound a [Pool]. Zero values mean the defaults named.
type Options struct {
	Max          int           // helpers at the same time; 4
	Share        int           // helpers of one user, abandoned ones included; half of Max
	MaxAbandoned int           // abandoned helpers at which nothing new is started; 8
	MaxWaiting   int           // requests that wait; 256, of one user at most a quarter
	Timeout      time.Duration // from start to answer of one helper; 60 s
	Grace        time.Duration // for a killed helper to be gone before it counts as abandoned; 1 s
	MemoryMB     int           // RLIMIT_DATA of a helper; 160, of which the runtime reserves half
	PackagesUID  uint32        // whose rights are used for what everybody may know, best a user's with no other processes; 65534
	PackagesGID  uint32        // 65534
	// Packages says where the databases are; zero for this machine's. MaxBytes in it counts for nothing.
	Packages packages.Options
	// Resolver is asked for the names of addresses; zero for those of /etc/resolv.conf.
	Resolver netip.AddrPort
}

func (o *Options) fill() {
	setDefault(&o.Max, 4)
	setDefault(&o.Share, max(o.Max/2, 1))
	setDefault(&o.MaxAbandoned, 8)
	setDefault(&o.MaxWaiting, 256)
	setDefault(&o.Timeout, time.Minute)
	setDefault(&o.Grace, time.Second)
	setDefault(&o.MemoryMB, 160)
	setDefault(&o.PackagesUID, 65534)
	setDefault(&o.PackagesGID, 65534)
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Stats are counts. Those of the second block only grow.
type Stats struct {
	Running   int
	Waiting   int
	Abandoned int // killed, but held by the kernel

	Started   uint64
	Answered  uint64
	TimedOut  uint64
	Failed    uint64 // could not be started, or ended without an answer
	Refused   uint64 // with ErrBusy
	GivenUp   uint64 // became abandoned
	Recovered uint64 // were abandoned and have ended
}
