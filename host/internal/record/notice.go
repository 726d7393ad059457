package record

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

const (
	noticeLimit    = 1024             // that wait for the next window
	noticesPerUser = 16               // of one kind in one window; the rest is one notice
	foldInterval   = 10 * time.Minute // between two such notices of one user
	foldUsers      = 1024             // that have one of their own
)

// notices collects what people should hear about, until the next window takes it.
type notices struct {
	waiting []*wire.Notice
	given   map[allowance]int // in this window
	folds   map[uint32]*fold
	dropped uint64
}

// allowance is what a user has of one kind of notices: new programs must not hide that a known one has changed.
type allowance struct {
	uid  uint32
	kind wire.NoticeKind
}

// fold counts news of one user that got no notice of their own.
type fold struct {
	count uint64
	said  time.Time
}

func newNotices() *notices {
	return &notices{given: map[allowance]int{}, folds: map[uint32]*fold{}}
}

func (n *notices) add(notice *wire.Notice) {
	if len(n.waiting) >= noticeLimit {
		n.dropped++
		return
	}
	n.waiting = append(n.waiting, notice)
}

// news adds a notice of a new program or hash within its user's share; beyond, it is counted.
func (n *notices) news(notice *wire.Notice) {
	uid := notice.GetProcess().GetRuid()
	from := allowance{uid, notice.GetKind()}
	if n.given[from] >= noticesPerUser {
		n.fold(uid)
		return
	}
	n.given[from]++
	n.add(notice)
}

func (n *notices) fold(uid uint32) {
	if _, ok := n.folds[uid]; !ok {
		if len(n.folds) >= foldUsers {
			uid = ^uint32(0)
		}
		if n.folds[uid] == nil {
			n.folds[uid] = &fold{}
		}
	}
	n.folds[uid].count++
}

// take gives what waits and one notice for every user with folded news.
func (n *notices) take(now time.Time) []*wire.Notice {
	for _, uid := range slices.Sorted(maps.Keys(n.folds)) {
		f := n.folds[uid]
		if passed := now.Sub(f.said); passed >= 0 && passed < foldInterval {
			continue
		}
		if f.count == 0 {
			delete(n.folds, uid)
			continue
		}
		notice := noticeOf(now, wire.NoticeKind_NOTICE_NEW_EXECUTABLE, foldText(uid, f.count))
		notice.Process = &wire.Process{Ruid: uid, Euid: uid, Loginuid: ^uint32(0), Session: ^uint32(0)}
		n.add(notice)
		f.count, f.said = 0, now
	}
	out := n.waiting
	n.waiting = nil
	clear(n.given)
	return out
}

func foldText(uid uint32, count uint64) string {
	who := fmt.Sprintf("user %d", uid)
	if uid == ^uint32(0) {
		who = "other users"
	}
	return fmt.Sprintf("picosnitch: %d more new programs of %s", count, who)
}

func noticeOf(now time.Time, kind wire.NoticeKind, text string) *wire.Notice {
	return &wire.Notice{Time: now.UnixNano(), Kind: kind, Text: &wire.Text{Value: []byte(text)}}
}

// errorText is what 1.0.3 showed of an error.log entry, or "" for those that it kept to the log.
func errorText(text string) string {
	for _, quiet := range []string{"Fallback to FUSE hash successful on ", "Fallback to PID hash successful on "} {
		if strings.HasPrefix(text, quiet) {
			return ""
		}
	}
	text = strings.Replace(text, "FD Read Error and PID Read Error and FUSE Read Error for", "Read Error for", 1)
	if utf8.RuneCountInString(text) <= 50 {
		return text
	}
	return string([]rune(text)[:47]) + "..."
}
