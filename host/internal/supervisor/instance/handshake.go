package instance

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// ErrProtocol is wrapped when a plugin does not speak the host's protocol: only another plugin file can mend that.
var ErrProtocol = errors.New("plugin protocol")

// minCertificate is the shortest text that go-plugin takes for a certificate.
const minCertificate = 50

// checkHandshake looks at the first line of a plugin before go-plugin does: core|wire|network|address|protocol|certificate.
func checkHandshake(line string) error {
	parts := strings.Split(line, "|")
	if len(parts) < 6 {
		return fmt.Errorf("%w: it says %q instead of core|wire|unix|socket|grpc|certificate", ErrProtocol, clean(line))
	}
	version, err := strconv.Atoi(parts[1])
	switch {
	case parts[0] != "1":
		return fmt.Errorf("%w: go-plugin core %q, want 1", ErrProtocol, clean(parts[0]))
	case err != nil || version != wire.Version:
		return fmt.Errorf("%w: wire version %q, want %d", ErrProtocol, clean(parts[1]), wire.Version)
	case parts[2] != "unix":
		return fmt.Errorf("%w: it listens on %q, want unix", ErrProtocol, clean(parts[2]))
	case parts[4] != "grpc":
		return fmt.Errorf("%w: it speaks %q, want grpc", ErrProtocol, clean(parts[4]))
	case len(parts[5]) <= minCertificate:
		return fmt.Errorf("%w: no certificate: TLS is not optional", ErrProtocol)
	}
	return nil
}

// checkAddress accepts a socket of the plugin's, directly in its own directory.
func checkAddress(network, address, dir string, uid uint32) error {
	if network != "unix" || filepath.Clean(address) != address || filepath.Dir(address) != dir {
		return fmt.Errorf("%w: address %q outside its socket directory", ErrProtocol, clean(network+" "+address))
	}
	fd, err := openSocket(address, uid)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// openSocket opens the socket file itself, without connecting. A link to another one, which would make root talk to it in
// the plugin's stead, is refused, and what was opened cannot be exchanged any more.
func openSocket(path string, uid uint32) (fd int, err error) {
	fd, err = unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open socket %s: %w", clean(path), err)
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && (st.Mode&unix.S_IFMT != unix.S_IFSOCK || st.Uid != uid) {
		err = fmt.Errorf("%w: %s is no socket of uid %d", ErrProtocol, clean(path), uid)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}
