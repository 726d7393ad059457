package main

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
	_ "modernc.org/sqlite" // the driver
)

// rows makes many flows at once and watches them become rows.
func (d *daemon) rows(peers int) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	begin := time.Now()
	for i := range peers {
		to := &unix.SockaddrInet4{Port: 9, Addr: [4]byte{127, 2, byte(i >> 8), byte(i)}}
		if err := unix.Sendto(fd, []byte("x"), 0, to); err != nil && !errors.Is(err, unix.ECONNREFUSED) {
			return err
		}
	}
	sent := time.Since(begin)
	db, err := sql.Open("sqlite", "file:"+d.path("config/snitch.db")+"?mode=ro")
	if err != nil {
		return err
	}
	defer db.Close()
	var total int
	var first time.Duration
	err = wait("rows", func() bool {
		row := db.QueryRow("SELECT coalesce(sum(sends), 0) FROM connections WHERE pid = ?", os.Getpid())
		if row.Scan(&total) != nil {
			return false
		}
		if total > 0 && first == 0 {
			first = time.Since(begin)
		}
		return total >= peers
	})
	if err != nil {
		return fmt.Errorf("%w (%d of %d)", err, total, peers)
	}
	all := time.Since(begin)
	figure("start to first captured byte, at most", "< 500 ms", "%d ms", d.ready.Milliseconds())
	figure(fmt.Sprintf("%d flows in windows of 1 s", peers), "", "sent in %d ms, first row after %d ms, last after %d ms",
		sent.Milliseconds(), first.Milliseconds(), all.Milliseconds())
	figure("flows to committed rows, once their window has ended", "", "%.0f rows/s", float64(peers)/(all-time.Second).Seconds())
	return nil
}
