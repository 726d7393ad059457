package main

import "golang.org/x/sys/unix"

// maxFiles is how many executed files may be open to be hashed. It leaves descriptors for everything else.
func (d *daemon) maxFiles() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 256
	}
	if want := d.inForce.get().RlimitNofile; want != nil {
		set := unix.Rlimit{Cur: uint64(*want), Max: max(limit.Max, uint64(*want))}
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &set); err != nil {
			d.log.Warn("set RLIMIT_NOFILE", "value", *want, "error", err)
		} else {
			limit = set
		}
	}
	return int(max(min(limit.Cur, 65536)/4, 64)) // the table may have three times as many open
}
