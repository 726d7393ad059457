package api

import (
	"os"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Group is the group whose members get every answer.
const Group = "picosnitch"

// access decides who may know names and addresses.
type access struct {
	owner     uint32 // of the configuration
	groupFile string // /etc/group; groups of directory servers do not count
}

// trusts tells whether a person gets every answer. The group is looked up each time, so that it counts as soon as it is made.
func (a access) trusts(p *person) bool {
	if p == nil {
		return false
	}
	if p.uid == 0 || p.uid == a.owner {
		return true
	}
	gid, ok := a.group()
	return ok && p.in(gid)
}

// group reads the number of [Group].
func (a access) group() (gid uint32, ok bool) {
	data, err := os.ReadFile(a.groupFile)
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(data)) {
		fields := strings.Split(line, ":") // group(5): name:password:number:members
		if len(fields) < 4 || fields[0] != Group {
			continue
		}
		n, err := strconv.ParseUint(fields[2], 10, 32)
		return uint32(n), err == nil && n != 0
	}
	return 0, false
}

// refusal says who may have the answer.
func refusal(what string, p *person) error {
	who := "you are somebody unknown"
	if p != nil {
		who = "you are uid " + strconv.FormatUint(uint64(p.uid), 10)
	}
	return status.Errorf(codes.PermissionDenied,
		"%s to root, the owner of the configuration and members of group %s; %s", what, Group, who)
}
