package capture

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Now reads both clocks.
func Now() Moment {
	var ts unix.Timespec
	// The call cannot fail: the clock exists since Linux 2.6.39 and ts is ours.
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	return Moment{UTC: time.Now().UnixNano(), Boot: ts.Nano()}
}

// at gives the moment of a boot time, as the clocks stand to each other in reference.
func at(boot int64, reference Moment) Moment {
	return Moment{UTC: reference.UTC - (reference.Boot - boot), Boot: boot}
}

// BootID is the kernel's random name of this boot.
func BootID() (string, error) {
	raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return strings.TrimSpace(string(raw)), nil
}
