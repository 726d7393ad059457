package sdk

import (
	"io"
	"log/slog"
	"os"
	"syscall"
	"time"
)

// watchHost calls died once when stdin reaches its end, provided that stdin is a pipe or a socket: the host holds the
// other end and writes nothing to it. /dev/null, a file and a terminal say nothing about the host and are left alone.
// The function returned ends the watch and waits for it, and for died if that runs: died must not call it.
func watchHost(stdin *os.File, log *slog.Logger, died func()) (stop func()) {
	file, err := pollable(stdin)
	if err != nil {
		log.Warn("watch standard input: " + err.Error())
	}
	if file == nil {
		return func() {}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		// Anything but the deadline that stop sets means that the host is gone.
		if _, err := io.Copy(io.Discard, file); !os.IsTimeout(err) {
			died()
		}
	}()
	return func() {
		_ = file.SetReadDeadline(time.Unix(1, 0)) // the file is pollable, so this cannot fail
		<-done
		_ = file.Close()
	}
}

// pollable duplicates a pipe or socket into a file whose reads can be ended by a deadline; nil for anything else.
func pollable(f *os.File) (*os.File, error) {
	info, err := f.Stat()
	if err != nil || info.Mode()&(os.ModeNamedPipe|os.ModeSocket) == 0 {
		return nil, err
	}
	fd, err := syscall.Dup(int(f.Fd()))
	if err != nil {
		return nil, os.NewSyscallError("dup", err)
	}
	syscall.CloseOnExec(fd)
	if err := syscall.SetNonblock(fd, true); err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(fd), "host"), nil
}
