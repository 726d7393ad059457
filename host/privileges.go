package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// errPrivileges is wrapped by the error of a verb that needs more than it has.
var errPrivileges = errors.New("missing privileges")

// capability is one of capabilities(7).
type capability struct {
	number int
	name   string
}

// needed are the capabilities that the daemon cannot do without.
func needed() []capability {
	return []capability{
		{unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN"},             // mounts and namespaces of plugins
		{unix.CAP_BPF, "CAP_BPF"},                         // programs in the kernel
		{unix.CAP_PERFMON, "CAP_PERFMON"},                 // that read kernel memory
		{unix.CAP_SYS_PTRACE, "CAP_SYS_PTRACE"},           // executables of others in /proc
		{unix.CAP_DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH"}, // and their bytes
		{unix.CAP_SETUID, "CAP_SETUID"},                   // users of plugins
		{unix.CAP_SETGID, "CAP_SETGID"},
		{unix.CAP_SETPCAP, "CAP_SETPCAP"}, // which give up every capability
		{unix.CAP_KILL, "CAP_KILL"},
	}
}

// requirePrivileges refuses whoever cannot run the daemon, and says what is missing.
func requirePrivileges(verb string) error {
	have, err := effective()
	if err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	return checkPrivileges(verb, os.Geteuid(), have)
}

// checkPrivileges judges a uid and a set of capabilities, one bit each. Root is needed besides: the daemon's files are
// trusted because they belong to root.
func checkPrivileges(verb string, uid int, have uint64) error {
	missing := missingCapabilities(have)
	switch {
	case uid != 0 && len(missing) > 0:
		return fmt.Errorf("%s: %w: uid %d is not root and has no %s: try sudo picosnitch %s",
			verb, errPrivileges, uid, strings.Join(missing, ", "), verb)
	case uid != 0:
		return fmt.Errorf("%s: %w: uid %d is not root: try sudo picosnitch %s", verb, errPrivileges, uid, verb)
	case len(missing) > 0:
		return fmt.Errorf("%s: %w: root has no %s here: a container or service takes them away",
			verb, errPrivileges, strings.Join(missing, ", "))
	}
	return nil
}

// missingCapabilities names those that are needed and not there. It is never nil.
func missingCapabilities(have uint64) []string {
	missing := []string{}
	for _, c := range needed() {
		implied := have&(1<<unix.CAP_SYS_ADMIN) != 0 && (c.number == unix.CAP_BPF || c.number == unix.CAP_PERFMON)
		if have&(1<<c.number) == 0 && !implied {
			missing = append(missing, c.name)
		}
	}
	return missing
}

// effective reads the capabilities that count now.
func effective() (uint64, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return 0, fmt.Errorf("read capabilities: %w", err)
	}
	return uint64(data[0].Effective) | uint64(data[1].Effective)<<32, nil
}
