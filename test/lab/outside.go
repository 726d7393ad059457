package lab

import (
	"context"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// What package chaos needs beyond what cases do: it compares with other stores than sqlite, and looks at the daemon from
// outside.

// Wanted is what the generators of the case have said until now.
func (c *Case) Wanted() []Expectation { return c.wanted() }

// Directory is where the case's executables lie; nothing else runs from it.
func (c *Case) Directory() string { return c.dir }

// Rows are what the daemon's database holds of the case.
func (c *Case) Rows(ctx context.Context) ([]Row, error) {
	return readRows(ctx, c.Daemon.Database(), c.filter())
}

// Gaps are all that the daemon's database holds.
func (c *Case) Gaps(ctx context.Context) ([]Gap, error) { return readGaps(ctx, c.Daemon.Database()) }

// Compare gives one line for each difference between what must be there and what is; none means exact.
func Compare(want []Expectation, got []Row) []Difference { return compare(want, got) }

// End ends the speaking program. What it did is expected by nobody.
func (p *Puppet) End() error {
	_, err := p.p.finish()
	return err
}

// Build builds a program of the module.
func (l *Lab) Build(output, pkg string) { build(l.t, output, pkg) }

// Terminate asks the daemon to end (SIGTERM) and says how it did; nothing is compared.
func (d *Daemon) Terminate() error {
	d.t.Helper()
	err := d.end(unix.SIGTERM)
	d.checkLog()
	return err
}

// Pid is the daemon's process, 0 while it is down.
func (d *Daemon) Pid() int {
	if d.cmd == nil {
		return 0
	}
	return d.cmd.Process.Pid
}

// UIDs are the first and the last of the user ids that plugins of this instance get.
func (d *Daemon) UIDs() (first, last int) {
	from, to, _ := strings.Cut(d.uids, "-")
	first, _ = strconv.Atoi(from) // we wrote them
	last, _ = strconv.Atoi(to)
	return first, last
}

// InstanceDirectories are those that the instance has in bpffs and cgroup file systems.
func (d *Daemon) InstanceDirectories() []string {
	var found []string
	for _, parent := range instanceDirs() {
		found = append(found, glob(parent+"picosnitch-"+d.Instance)...)
	}
	return found
}
