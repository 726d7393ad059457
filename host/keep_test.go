package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/picosnitch/picosnitch/host/internal/home"
)

// borrowVariable makes the test binary a root that goes on as another user for a while.
const borrowVariable = "PICOSNITCH_TEST_BORROW"

// borrowAndGiveBack prints what root may do before, during and after.
func borrowAndGiveBack() int {
	if os.Getenv(borrowVariable) == "child" { // what is started meanwhile
		fmt.Println("child", unix.Setresuid(0, 0, 0) == nil, readable())
		return 0
	}
	fmt.Println("before", os.Geteuid(), readable())
	giveBack, err := borrow(home.Owner{UID: 64101, GID: 64102})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("during", os.Geteuid(), os.Getegid(), readable())
	child := exec.Command("/proc/self/exe")
	child.Env, child.Stdout = []string{borrowVariable + "=child"}, os.Stdout
	if err := child.Run(); err != nil {
		fmt.Println(err)
	}
	if err := giveBack(); err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("after", os.Geteuid(), os.Getegid(), readable())
	return 0
}

func readable() bool {
	_, err := os.ReadFile("/etc/shadow")
	return err == nil
}

func TestBorrowedRightsAreGivenBackAndNotInherited(t *testing.T) {
	t.Parallel()
	needRoot(t)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{borrowVariable + "=parent"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	want := "before 0 true\nduring 64101 64102 false\nchild false false\nafter 0 0 true\n"
	if got := string(out); got != want {
		t.Errorf("got\n%swant\n%s", strings.TrimSpace(got)+"\n", want)
	}
}
