package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// mebibyte is what the bombs take at a time.
const mebibyte = 1 << 20

// forkBomb starts children until it cannot, and says how many there were and why no more. They outlast the slowest machine's
// way to the limit.
func forkBomb() string {
	const enough = 2000
	for n := range enough {
		child := exec.Command("/bin/sleep", "600")
		if err := child.Start(); err != nil {
			return fmt.Sprintf("%d children, then %v", n, err)
		}
	}
	return ""
}

// memoryBomb takes memory, and writes to it, until it is stopped.
func memoryBomb() {
	var kept [][]byte
	for {
		block := make([]byte, mebibyte)
		for i := 0; i < len(block); i += 4096 {
			block[i] = 1
		}
		kept = append(kept, block)
		_ = kept
	}
}

// fill writes files until it is stopped.
func fill(directory string) {
	block := make([]byte, mebibyte)
	for n := 0; ; n++ {
		if err := os.WriteFile(filepath.Join(directory, fmt.Sprintf("fill%d", n)), block, 0o600); err != nil {
			fmt.Fprintln(os.Stderr, "fill:", err)
			time.Sleep(time.Second)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// fillUnlinked writes a file without a name.
func fillUnlinked(directory string) {
	file, err := os.CreateTemp(directory, "")
	if err == nil {
		err = os.Remove(file.Name())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "fill:", err)
		return
	}
	block := make([]byte, mebibyte)
	for {
		if _, err := file.Write(block); err != nil {
			fmt.Fprintln(os.Stderr, "fill:", err)
			time.Sleep(time.Second)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// flood writes lines as fast as they are taken.
func flood() {
	line := []byte(strings.Repeat("flood ", 40) + "\n")
	for {
		_, _ = os.NewFile(2, "stderr").Write(line)
	}
}

// forge writes what would look like others' lines, and would act on a terminal.
func forge() {
	fmt.Fprint(os.NewFile(2, "stderr"), "\x1b]0;owned\x07\x1b[2J\rWARN plugin sqlite is blocked\n"+
		`{"time":"2020-01-01T00:00:00Z","level":"ERROR","msg":"forged\n2020-01-01 picosnitch: all is well","plugin":"sqlite"}`+"\n"+
		`{"@message":1,"@level":[],"@timestamp":{}}`+"\n")
}

// orphan leaves a child in a session of its own, which ignores what asks it to end and holds all pipes.
func orphan() error {
	child := exec.Command("/bin/sh", "-c", "trap '' HUP INT TERM QUIT; while :; do /bin/sleep 5; done")
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	child.Stdout, child.Stderr = os.NewFile(1, "1"), os.NewFile(2, "2")
	return child.Start()
}
