package packages

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/picosnitch/picosnitch/sdk"
	"golang.org/x/sys/unix"
)

const (
	maxAnswer = 64 << 20 // bytes; the largest package, of 100,000 files, prints 12 MB
	maxSaid   = 8 << 10  // bytes of what rpm says on its standard error
	killDelay = time.Second
)

// rpm asks the rpm program. Its database has three formats, one of them sqlite: another library in root's daemon for the
// sake of a question that the program of the distribution answers. It gets no environment and nothing to write to.
type rpm struct {
	options Options
}

// rpmData are where distributions keep the database.
func rpmData() []string { return []string{"usr/lib/sysimage/rpm", "var/lib/rpm"} }

func openRPM(o Options) (manager, error) {
	data := o.RPMData
	for _, dir := range rpmData() {
		path := filepath.Join(o.Root, dir)
		if entries, err := os.ReadDir(path); data == "" && err == nil && len(entries) > 0 {
			data = path
		}
	}
	if data == "" {
		return nil, fmt.Errorf("find rpm's database: %w", fs.ErrNotExist)
	}
	var st unix.Stat_t
	if err := unix.Stat(o.RPM, &st); err != nil {
		return nil, fmt.Errorf("find %s: %w", o.RPM, err)
	}
	if st.Uid != 0 && st.Uid != o.Trust || st.Mode&0o002 != 0 {
		return nil, fmt.Errorf("run %s: %w", o.RPM, ErrUntrusted)
	}
	return &rpm{options: o}, nil
}

func (r *rpm) working() bool {
	for _, dir := range rpmData() {
		if r.options.locked(dir + "/.rpm.lock") {
			return true
		}
	}
	return false
}

// rpmLine is what a query prints for each file of the package: the name last, since it may have spaces.
const rpmLine = `[%{=NAME} %{=EPOCHNUM}:%{=VERSION}-%{=RELEASE} %{=FILEDIGESTALGO} %{FILEFLAGS} x%{FILEDIGESTS} %{FILENAMES}\n]`

// rpm's own numbers.
const rpmConfig = 1 << 0 // a configuration file

// digestName names a hash by its number in OpenPGP; a package that says none is so old that it has MD5.
func digestName(number string) string {
	switch number {
	case "(none)", "1":
		return "md5"
	case "2":
		return "sha1"
	case "8":
		return "sha256"
	case "9":
		return "sha384"
	case "10":
		return "sha512"
	}
	return ""
}

func (r *rpm) find(ctx context.Context, names []string) (*claim, error) {
	args := []string{"--query", "--file", "--queryformat", rpmLine}
	if r.options.RPMData != "" {
		args = append(args, "--dbpath", r.options.RPMData)
	}
	// One name will do: rpm compares directories, not their names.
	answer, err := r.run(ctx, append(args, "--", names[0]), []string{
		"file " + names[0] + " is not owned by any package",
		"error: file " + names[0] + ": No such file or directory",
	})
	if err != nil || len(answer) == 0 {
		return nil, err
	}
	return parseRPM(answer, names), nil
}

// run gives what rpm prints; nothing if it fails with one of the texts that say that no package owns the file.
func (r *rpm) run(ctx context.Context, args, unowned []string) ([]byte, error) {
	out, said := &bounded{limit: maxAnswer}, &bounded{limit: maxSaid}
	cmd := exec.CommandContext(ctx, r.options.RPM, args...)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "HOME=/nonexistent"}
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = "/", out, said, killDelay
	err := cmd.Run()
	if err == nil && out.lost {
		err = fmt.Errorf("answer longer than %d bytes: %w", maxAnswer, fs.ErrInvalid)
	}
	if err == nil {
		return out.kept.Bytes(), nil
	}
	if text := complaint(out.kept.String() + said.kept.String()); slices.Contains(unowned, text) {
		return nil, nil
	}
	return nil, fmt.Errorf("ask rpm: %w: %s", errors.Join(ctx.Err(), err), sdk.EscapeString(strings.TrimSpace(said.kept.String())))
}

// complaint is what rpm prints without its warnings. With a database that it cannot read it says so, and then that nobody
// owns the file: only the latter alone is an answer.
func complaint(text string) string {
	var kept []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSuffix(line, "\n"); line != "" && !strings.HasPrefix(line, "warning: ") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "\n")
}

// parseRPM finds the file's line.
func parseRPM(answer []byte, names []string) *claim {
	for line := range bytes.Lines(answer) {
		parts := strings.SplitN(strings.TrimSuffix(string(line), "\n"), " ", 6)
		if len(parts) != 6 {
			continue
		}
		for _, name := range names {
			if parts[5] != name {
				continue
			}
			c := &claim{Owner: Owner{Manager: "rpm", Package: parts[0], Path: name, Algorithm: digestName(parts[2])}}
			c.Version = strings.TrimPrefix(parts[1], "0:")
			flags, err := strconv.ParseUint(parts[3], 10, 32)
			c.conffile = err == nil && flags&rpmConfig != 0
			c.want = lowerHex([]byte(strings.TrimPrefix(parts[4], "x")))
			return c
		}
	}
	return nil
}

// bounded keeps the first bytes and takes the rest without a word, so that the program ends of itself.
type bounded struct {
	kept  bytes.Buffer
	limit int
	lost  bool
}

func (b *bounded) Write(p []byte) (int, error) {
	room := min(b.limit-b.kept.Len(), len(p))
	b.kept.Write(p[:room])
	b.lost = b.lost || room < len(p)
	return len(p), nil
}
