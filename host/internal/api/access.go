package api

import (
	"context"
	"os"
	"strconv"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// access decides which people may know names and addresses.
type access struct {
	owner     uint32                 // of the configuration
	groupFile string                 // /etc/group; groups of directory servers do not count
	name      atomic.Pointer[string] // of the group
}

func newAccess(owner uint32, groupFile, group string) *access {
	a := &access{owner: owner, groupFile: groupFile}
	a.name.Store(&group)
	return a
}

func (a *access) rights(ctx context.Context) right {
	if who, _ := personOf(ctx); a.trusts(who) {
		return everything
	}
	return 0
}

// trusts tells whether a person gets every answer. The group is looked up each time, so that it counts as soon as it is made.
func (a *access) trusts(p *person) bool {
	if p == nil {
		return false
	}
	if p.uid == 0 || p.uid == a.owner {
		return true
	}
	gid, ok := a.group()
	return ok && p.in(gid)
}

// group reads the group's number. Group 0 is never trusted: too many programs run in it.
func (a *access) group() (gid uint32, ok bool) {
	data, err := os.ReadFile(a.groupFile)
	if err != nil {
		return 0, false
	}
	name := *a.name.Load()
	for line := range strings.Lines(string(data)) {
		fields := strings.Split(line, ":") // group(5): name:password:number:members
		if len(fields) < 4 || fields[0] != name {
			continue
		}
		n, err := strconv.ParseUint(fields[2], 10, 32)
		return uint32(n), err == nil && n != 0
	}
	return 0, false
}

// refusal says who may have the answer.
func (a *access) refusal(ctx context.Context, what string) error {
	who := "you are somebody unknown"
	if p, _ := personOf(ctx); p != nil {
		who = "you are uid " + strconv.FormatUint(uint64(p.uid), 10)
	}
	return status.Errorf(codes.PermissionDenied,
		"%s to %s; %s", what, a.trusted(), who)
}

func (a *access) trusted() string {
	return "root, the owner of the configuration and members of group " + *a.name.Load()
}
