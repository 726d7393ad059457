package record

import (
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// seen is a process as what is known keys it.
type seen struct {
	path   string // "scope:/path" where the host has another file at that path
	bare   string
	name   string
	hash   string // hex, or ""
	scoped bool
}

func seenOf(p *wire.Process) seen {
	exe := p.GetExecutable()
	s := seen{bare: wholeText(exe.GetPath()), name: wholeText(p.GetName()), scoped: exe.GetScope() != ""}
	if p.GetKernel() != "" && s.bare == "" {
		// A thread's name ends in numbers that differ every time: kworker/u8:3-events.
		s.name, _, _ = strings.Cut(p.GetKernel(), "/")
		s.bare = "kernel:" + s.name
	}
	if s.path = s.bare; s.scoped {
		s.path = exe.GetScope() + ":" + s.bare
	}
	if len(exe.GetSha256()) == 32 {
		s.hash = hex.EncodeToString(exe.GetSha256())
	}
	return s
}

// wholeText keeps apart what differs only behind the cut.
func wholeText(t *wire.Text) string {
	if !t.GetTruncated() {
		return string(t.GetValue())
	}
	return fmt.Sprintf("%s… (%d bytes, %.8x)", t.Value, t.Length, t.Sha256)
}

// meetLocked looks whether anything about a process is new: maps, exe.log, notices.
func (r *Recorder) meetLocked(now time.Time, p *wire.Process, parent bool) {
	s := seenOf(p)
	if s.path == "" && s.name == "" {
		return
	}
	payer := account{uid: p.GetRuid(), scoped: s.scoped}
	pretends := s.scoped && r.known.has(s.bare)
	news := r.known.program(payer, s.path, s.name, parent)
	switch {
	case news.folded:
		r.foldLocked(now, payer)
	case news.name || news.exe:
		r.lineLocked(payer, programLine(now, s.name, s.path, news, parent))
		r.noticeLocked(p, parent, newsNotice(now, s, news, pretends))
	}
	if s.hash != "" {
		r.hashLocked(now, p, s, parent)
	}
}

func newsNotice(now time.Time, s seen, news novelty, pretends bool) *wire.Notice {
	kind, text := wire.NoticeKind_NOTICE_NEW_NAME, "picosnitch: "+s.name+" "+s.path
	if news.exe {
		kind = wire.NoticeKind_NOTICE_NEW_EXECUTABLE
	}
	if news.exe && pretends {
		kind, text = wire.NoticeKind_NOTICE_PRETENDS, text+" pretends to be "+s.bare
	}
	return noticeOf(now, kind, text)
}

// hashLocked gives no notice for the first hash of a path: its program had one, and two for one event teach people to
// look away.
func (r *Recorder) hashLocked(now time.Time, p *wire.Process, s seen, parent bool) {
	payer := account{uid: p.GetRuid(), scoped: s.scoped}
	news := r.known.hash(payer, s.path, s.hash)
	switch {
	case news.folded:
		r.foldLocked(now, payer)
	case news.hash:
		r.lineLocked(payer, hashLine(now, s.hash, s.path, "new hash"))
		if news.further {
			notice := noticeOf(now, wire.NoticeKind_NOTICE_NEW_SHA256, "New sha256: "+s.path)
			r.describe(notice, p, parent)
			if r.learning > 0 || !r.explainLocked(now, notice, s, p.GetExecutable().GetSha256()) {
				r.noticeLocked(p, parent, notice)
			}
		}
	}
}

// lineLocked writes everything while it learns: the summary says that it is all there.
func (r *Recorder) lineLocked(payer account, line string) {
	if r.learning > 0 {
		r.exe.add(line)
		return
	}
	r.exe.news(payer, line)
}

func (r *Recorder) noticeLocked(p *wire.Process, parent bool, notice *wire.Notice) {
	if r.learning > 0 {
		return // the summary comes at the end
	}
	r.describe(notice, p, parent)
	r.notices.news(notice)
}

// describe says whom a notice is about.
func (r *Recorder) describe(notice *wire.Notice, p *wire.Process, parent bool) {
	notice.Process, notice.Parent = p, parent
	if r.options.Ancestors != nil && notice.Ancestors == nil {
		notice.Ancestors = r.options.Ancestors(p.GetId())
	}
}

func (r *Recorder) foldLocked(now time.Time, payer account) {
	r.counters.KnownFolded++
	text := fmt.Sprintf("there is no room for new programs of user %s, they are counted, not listed", payer)
	r.errorLocked(now, text, text)
	r.notices.fold(payer.uid)
}

// learnedLocked ends the very first start: one notice instead of one for every program that was already there.
func (r *Recorder) learnedLocked(now time.Time) {
	if r.learning == 0 {
		return
	}
	if r.learning--; r.learning > 0 {
		return
	}
	programs := len(r.known.executables)
	for path := range r.known.parentExecutables {
		if _, ok := r.known.executables[path]; !ok {
			programs++
		}
	}
	text := fmt.Sprintf("picosnitch: learned %d programs that were already there, see exe.log", programs)
	r.notices.add(noticeOf(now, wire.NoticeKind_NOTICE_LEARNED, text))
}

// Hashed tells that the hash of a process came after its window, beside the HashResolved that goes to the sinks.
func (r *Recorder) Hashed(p *wire.Process) {
	p = r.privacy.process(p)
	s, now := seenOf(p), r.clock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.hash != "" {
		r.hashLocked(now, p, s, false)
	}
}

// Forged tells of a process whose link to its program shows another one than it executes (decision 41); shown is raw.
func (r *Recorder) Forged(p *wire.Process, shown string) {
	p = r.privacy.process(p)
	text := fmt.Sprintf("picosnitch: process %d shows %s as its program, but executes %s", p.GetId().GetTgid(),
		shown, p.GetExecutable().GetPath().GetValue())
	r.Note(sdk.EscapeString(text))
	notice := noticeOf(r.clock(), wire.NoticeKind_NOTICE_PRETENDS, text)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.describe(notice, p, false)
	r.notices.news(notice)
}

// Verdict notes what a scanner says of a hash, for every path that had it. A verdict that says that nothing was scanned is
// kept, and is not called clean.
func (r *Recorder) Verdict(v *wire.Verdict) {
	hash, now := hex.EncodeToString(v.GetSha256()), r.clock()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, path := range slices.Sorted(maps.Keys(r.known.hashes)) {
		old, ok := r.known.hashes[path][hash]
		if !ok || old == v.GetText() {
			continue
		}
		r.known.hashes[path][hash] = v.GetText()
		r.known.version++
		payer := r.known.payer(fact{keyHashes, path, hash})
		switch {
		case v.GetSuspicious():
			r.lineLocked(payer, hashLine(now, hash, path, "suspicious"))
			r.notices.add(noticeOf(now, wire.NoticeKind_NOTICE_SUSPICIOUS, "Suspicious VT results: "+path))
		case scanned(v.GetText()):
			r.lineLocked(payer, hashLine(now, hash, path, "clean"))
		}
	}
}

func scanned(verdict string) bool {
	for _, not := range []string{"File not analyzed", "Failed to read process", verdictPending} {
		if strings.HasPrefix(verdict, not) {
			return false
		}
	}
	return verdict != ""
}
