package lab

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// rewrittenAtOnce writes a program, executes it, and writes the next one in its place, faster than a file's time can tell:
// a run has its own hash or none, never that of the next one. The disk can be unmounted when the last has ended.
func (c *Case) rewrittenAtOnce() {
	c.Helper()
	shell, err := os.ReadFile("/bin/bash")
	if err != nil {
		c.Fatal(err)
	}
	disk := c.TempDir() // its rows are none of those that the case has to the byte
	if err := unix.Mount("lab", disk, "tmpfs", 0, ""); err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() { _ = unix.Unmount(disk, unix.MNT_DETACH) })
	path, want := filepath.Join(disk, "program"), map[string]string{}
	for i := range 30 {
		content := fmt.Append(shell, i)
		if err := writeExecutable(path, content); err != nil {
			c.Fatal(err)
		}
		cmd := exec.CommandContext(c.Context(), path, "-c", fmt.Sprintf("echo >/dev/udp/127.0.0.1/%d", 20000+i))
		if out, err := cmd.CombinedOutput(); err != nil {
			c.Fatalf("%v: %s", err, out)
		}
		sum := sha256.Sum256(content)
		want[fmt.Sprint(20000+i)] = hex.EncodeToString(sum[:])
	}
	ended := time.Now()
	c.Daemon.until("a tmpfs nobody runs anything of", func() string {
		if err := unix.Unmount(disk, 0); err != nil {
			return err.Error()
		}
		return ""
	})
	c.Logf("unmounted after %v", time.Since(ended).Round(time.Millisecond))
	c.Daemon.until("runs within a tick", func() string { return c.ownHashOrNone(path, want) })
}

// ownHashOrNone tells what is wrong with the rows of an executable: each port stands for one run.
func (c *Case) ownHashOrNone(path string, want map[string]string) string {
	db, err := openDatabase(c.Daemon.Database())
	if err != nil {
		return err.Error()
	}
	defer db.Close()
	rows, err := db.QueryContext(c.Context(), "SELECT rport, sha256, hash_status FROM connections WHERE exe = ? AND send > 0", path)
	if err != nil {
		return err.Error()
	}
	defer rows.Close()
	runs, hashed := 0, 0
	for rows.Next() {
		var port, sum, status string
		if err := rows.Scan(&port, &sum, &status); err != nil {
			return err.Error()
		}
		if sum != "" && sum != want[port] || (sum == "") == (status == "ok" || status == "racy") {
			c.Fatalf("the run to port %s: %s, hash %q, want %q", port, status, sum, want[port])
		}
		runs++
		if sum != "" {
			hashed++
		}
	}
	if runs != len(want) || hashed == 0 {
		return fmt.Sprintf("%d of %d runs, %d with a hash: %v", runs, len(want), hashed, rows.Err())
	}
	return ""
}
