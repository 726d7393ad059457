package supervisor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/picosnitch/picosnitch/host/internal/supervisor/group"
	"github.com/picosnitch/picosnitch/host/internal/supervisor/peers"
	"github.com/picosnitch/picosnitch/host/internal/supervisor/process"
)

// lookUpTime bounds one round of looking up names.
const lookUpTime = 5 * time.Second

// network lets an incarnation talk to the peers that it was granted, and to nobody else.
type network struct {
	book   *peers.Book
	filter *peers.Filter // nil: it could not be had, and the plugin may talk to anybody
	hosts  string        // path of the file that tells the plugin the names
	told   bool          // that a name cannot be found
}

// newNetwork attaches the filter to the group, which may be nil, and writes the files that look-ups need below dir. cause
// says why there is no filter.
func newNetwork(ctx context.Context, granted []peers.Peer, g *group.Group, dir string) (n *network, cause, err error) {
	lookup := func(ctx context.Context, host string) ([]netip.Addr, error) {
		return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	}
	n = &network{book: peers.NewBook(granted, lookup), hosts: filepath.Join(dir, "hosts")}
	if g == nil || g.Path() == "" {
		cause = errors.New("there is no control group (v2)")
	} else {
		n.filter, cause = peers.Attach(g.Path())
	}
	if err := writeReadable(filepath.Join(dir, "nsswitch.conf"), []byte("hosts: files\n")); err != nil {
		return n, cause, err
	}
	if err := n.refresh(ctx); err != nil && ctx.Err() != nil {
		return n, cause, err
	}
	return n, cause, nil // what cannot be found yet is looked up again soon
}

// refresh looks the names up and applies what was found.
func (n *network) refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lookUpTime)
	defer cancel()
	unknown := n.book.Refresh(ctx)
	var err error
	if n.filter != nil {
		err = n.filter.Allow(n.book.Addresses())
	}
	return errors.Join(unknown, err, n.writeHosts())
}

// writeHosts changes the file in place: the plugin has it mounted.
func (n *network) writeHosts() error {
	text := n.book.Hosts()
	if had, err := os.ReadFile(n.hosts); err == nil && slices.Equal(had, text) {
		return nil
	}
	return writeReadable(n.hosts, text)
}

// writeReadable writes a file for the plugin, whatever the host's umask.
func writeReadable(path string, text []byte) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("write for the plugin: %w", err)
	}
	_, err = file.WriteAt(text, 0)
	if err = errors.Join(err, file.Truncate(int64(len(text))), file.Chmod(0o644), file.Close()); err != nil {
		return fmt.Errorf("write for the plugin: %w", err)
	}
	return nil
}

// mount shows the plugin the files in the places where programs look for them.
func (n *network) mount(h *home) error {
	dir := filepath.Dir(n.hosts)
	for at, path := range map[string]string{"/etc/hosts": n.hosts, "/etc/nsswitch.conf": filepath.Join(dir, "nsswitch.conf")} {
		file, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("show the plugin %s: %w", at, err)
		}
		m, err := process.NewMount(file, at, nil, true)
		if err = errors.Join(err, file.Close()); err != nil {
			return err
		}
		h.sandbox.Mounts = append(h.sandbox.Mounts, m)
	}
	return nil
}

// close is called when the plugin is gone.
func (n *network) close() error {
	errs := []error{os.RemoveAll(n.hosts), os.RemoveAll(filepath.Join(filepath.Dir(n.hosts), "nsswitch.conf"))}
	if n.filter != nil {
		errs = append(errs, n.filter.Close())
	}
	return errors.Join(errs...)
}
