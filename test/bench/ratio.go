package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// speed is what a transfer made.
type speed struct {
	perSecond float64 // of the clock
	perCPU    float64 // of a second of the processor's time for it: load of others hardly matters
}

// transfer is something that the daemon may slow down.
type transfer struct {
	words string
	aim   string
	unit  string
	scale float64 // of the figure that is printed
	run   func(length time.Duration) (speed, error)
}

// ratios compares transfers with and without the daemon, in turns, so that a machine that gets slower or faster meanwhile
// does so to both.
func ratios(ctx context.Context, o options) error {
	transfers := []transfer{
		{"TCP over loopback, 128 KiB a call", "≥ 0.97", "GB/s", 1e9, bulk},
		{"64-byte datagrams over loopback, sent and received", "≥ 0.90", "million/s", 1e6, datagrams},
	}
	without, beside := make([][]speed, len(transfers)), make([][]speed, len(transfers))
	measure := func(into [][]speed) error {
		for i, t := range transfers {
			s, err := t.run(o.length)
			if err != nil {
				return fmt.Errorf("%s: %w", t.words, err)
			}
			into[i] = append(into[i], s)
		}
		return nil
	}
	for range o.rounds {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := measure(without); err != nil {
			return err
		}
		if err := with(ctx, o.bin, 10, func(*daemon) error { return measure(beside) }); err != nil {
			return err
		}
	}
	for i, t := range transfers {
		t.print(without[i], beside[i])
	}
	return nil
}

func (t transfer) print(without, beside []speed) {
	clock := func(s speed) float64 { return s.perSecond }
	cpu := func(s speed) float64 { return s.perCPU }
	figure(t.words, "", "%.2f %s without the daemon, %.2f with it", medianOf(without, clock)/t.scale, t.unit, medianOf(beside, clock)/t.scale)
	figure("… as a ratio", t.aim, "%.3f (of processor time: %.3f)", ratio(without, beside, clock), ratio(without, beside, cpu))
}

// ratio is the median of the ratios of the rounds: each compares what was measured one after the other.
func ratio(without, beside []speed, of func(speed) float64) float64 {
	var all []float64
	for i := range beside {
		all = append(all, of(beside[i])/of(without[i]))
	}
	return median(all)
}

func medianOf(speeds []speed, of func(speed) float64) float64 {
	var all []float64
	for _, s := range speeds {
		all = append(all, of(s))
	}
	return median(all)
}

func median(of []float64) float64 {
	slices.Sort(of)
	return of[len(of)/2]
}

// datagrams sends and receives in one thread, so that none is lost and no scheduler takes part.
func datagrams(length time.Duration) (speed, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	from, to, err := udpPair()
	if err != nil {
		return speed{}, err
	}
	defer unix.Close(from)
	defer unix.Close(to)
	message := make([]byte, 64)
	begin, used := time.Now(), threadTime()
	calls := 0
	for time.Since(begin) < length {
		for range 256 {
			if _, err := unix.Write(from, message); err != nil {
				return speed{}, fmt.Errorf("send: %w", err)
			}
			if _, err := unix.Read(to, message); err != nil {
				return speed{}, fmt.Errorf("receive: %w", err)
			}
			calls++
		}
	}
	return speed{float64(calls) / time.Since(begin).Seconds(), float64(calls) / (threadTime() - used).Seconds()}, nil
}

// udpPair gives a connected socket and the one that it sends to.
func udpPair() (from, to int, err error) {
	if to, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return 0, 0, fmt.Errorf("make a socket: %w", err)
	}
	if from, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return 0, 0, errors.Join(fmt.Errorf("make a socket: %w", err), unix.Close(to))
	}
	if err = join(from, to); err != nil {
		return 0, 0, errors.Join(err, unix.Close(from), unix.Close(to))
	}
	return from, to, nil
}

// join binds a socket to loopback and connects another one to it.
func join(from, to int) error {
	if err := unix.Bind(to, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	name, err := unix.Getsockname(to)
	if err != nil {
		return fmt.Errorf("ask for the address: %w", err)
	}
	if err := unix.Connect(from, name); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	return nil
}

// threadTime is the processor time that the calling thread has had.
func threadTime() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
