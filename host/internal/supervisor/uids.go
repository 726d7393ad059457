package supervisor

import (
	"bufio"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// UIDs is a range of user ids, both ends included, that nobody else uses. Groups have the same numbers.
type UIDs struct{ First, Last uint32 }

// DefaultUIDs is the range used unless PICOSNITCH_UIDS names another.
func DefaultUIDs() UIDs { return UIDs{First: 60900, Last: 60963} }

// ParseUIDs reads "60900-60963".
func ParseUIDs(text string) (UIDs, error) {
	first, last, _ := strings.Cut(text, "-")
	a, errA := strconv.ParseUint(first, 10, 32)
	b, errB := strconv.ParseUint(last, 10, 32)
	if errA != nil || errB != nil || a < 1000 || b < a || b > 1<<31 {
		return UIDs{}, fmt.Errorf("PICOSNITCH_UIDS %.40q: want a range such as 60900-60963, all above 999", text)
	}
	return UIDs{uint32(a), uint32(b)}, nil
}

// errNoUID says that the range is used up.
var errNoUID = errors.New("no unused uid left: set PICOSNITCH_UIDS to a free range")

// assign gives every name a uid that is not among those taken. The same names get the same uids as long as others do not
// use them.
func (u UIDs) assign(names []string, taken ...uint32) (map[string]uint32, error) {
	used, err := usedIDs(u)
	if err != nil {
		return nil, err
	}
	for _, uid := range taken {
		used[uid] = true
	}
	size := u.Last - u.First + 1
	assigned := map[string]uint32{}
	for _, name := range slices.Sorted(slices.Values(names)) {
		hash := fnv.New32a()
		_, _ = hash.Write([]byte(name))
		slot, tries := hash.Sum32()%size, uint32(0)
		for used[u.First+slot] && tries < size {
			slot, tries = (slot+1)%size, tries+1
		}
		if tries == size {
			return nil, fmt.Errorf("user for plugin %s: %w", name, errNoUID)
		}
		assigned[name] = u.First + slot
		used[u.First+slot] = true
	}
	return assigned, nil
}

// usedIDs lists the ids of the range that have a name or a process.
func usedIDs(u UIDs) (map[uint32]bool, error) {
	used := map[uint32]bool{}
	note := func(id uint64) {
		if id >= uint64(u.First) && id <= uint64(u.Last) {
			used[uint32(id)] = true
		}
	}
	for _, path := range []string{"/etc/passwd", "/etc/group"} {
		if err := readIDs(path, note); err != nil {
			return nil, err
		}
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("look for processes: %w", err)
	}
	for _, entry := range entries {
		var st unix.Stat_t
		if name := entry.Name(); name[0] >= '1' && name[0] <= '9' && unix.Stat("/proc/"+name, &st) == nil {
			note(uint64(st.Uid))
		}
	}
	return used, nil
}

// readIDs reads the third field of each line.
func readIDs(path string, note func(uint64)) error {
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for users: %w", err)
	}
	defer func() { _ = file.Close() }()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if fields := strings.Split(lines.Text(), ":"); len(fields) > 2 {
			if id, err := strconv.ParseUint(fields[2], 10, 32); err == nil {
				note(id)
			}
		}
	}
	return lines.Err()
}
