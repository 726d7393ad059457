package record

import (
	"slices"
	"sync"
	"time"

	"github.com/picosnitch/picosnitch/host/internal/capture"
	"github.com/picosnitch/picosnitch/host/internal/identity"
	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// Recorder keeps what is known between windows. See the package comment for what may run beside what.
type Recorder struct {
	options Options
	ignorer *ignorer
	privacy privacy
	home    Files
	state   Files
	clock   func() time.Time

	mu          sync.Mutex
	known       *known
	notices     *notices
	limit       *errorLimit
	exe         exeLines
	errors      lines
	counters    Counters
	learning    int // windows left
	unexplained []unexplained
	bootUTC     int64 // UTC minus boot time in ns at the last window's end; 0 before the first

	flushing  sync.Mutex // held during input and output; taken before mu
	lastFlush time.Time
	saved     int      // version of known that known.json holds
	copyOf    int      // version of known that record.json holds
	copies    []string // hashes that record.json may have without another hand
	copied    bool     // record.json was there, or was written by us
	failing   bool     // the last Flush gave an error
}

// New reads what is known from known.json in state, or, at the very first start, from a record.json of 1.0.3 in home. The
// clock's location is the local time of the logs. It gives an error if an option names what does not exist or state cannot
// be read; trouble with files in home goes to error.log.
func New(o Options, home, state Files, clock func() time.Time) (*Recorder, error) {
	o = o.withDefaults()
	redactor, err := newRedactor(o.Unredacted)
	if err != nil {
		return nil, err
	}
	r := &Recorder{
		options: o, ignorer: newIgnorer(o.Ignore), privacy: privacy{commands: o.Commands, redactor: redactor},
		home: home, state: state, clock: clock,
		known: newKnown(o.Known), notices: newNotices(), limit: newErrorLimit(), exe: newExeLines(), lastFlush: clock(),
	}
	if err := r.load(); err != nil {
		return nil, err
	}
	return r, nil
}

// Window gives the records of a window: flows in a fixed order, then notices, then gaps. who names the process of a
// flow; it is called once for each and must not call the Recorder. The messages inside the records may be shared with who
// and with each other, and are read-only. Sequences are not set.
func (r *Recorder) Window(w *capture.Window, who func(*capture.Flow) identity.Lineage) []*wire.Record {
	s := newSums(r.options, r.ignorer, r.privacy)
	for i := range w.Flows {
		s.add(&w.Flows[i], who(&w.Flows[i]))
	}
	rows, folded := s.result()
	now := r.clock()
	window := windowOf(w.Start, w.End, now.Location())
	out := make([]*wire.Record, 0, len(rows))
	for _, row := range rows {
		out = append(out, row.record(window))
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	r.bootUTC = w.End.UTC - w.End.Boot
	r.countLocked(s, rows, folded)
	for _, p := range ordered(s.processes) {
		r.meetLocked(now, p, false)
	}
	for _, p := range ordered(s.parents) {
		r.meetLocked(now, p, true)
	}
	r.learnedLocked(now)
	r.exe.endWindow(now)
	r.known.window++
	for _, loss := range w.Losses {
		if isGap(loss) {
			key, text := gapError(loss)
			r.errorLocked(now, key, text)
		} else if loss.Exact {
			r.counters.ExactLosses += loss.Events
		}
	}
	out = append(out, r.noticesLocked(now)...)
	gaps := Gaps(w)
	r.counters.Gaps += uint64(len(gaps))
	return append(out, gaps...)
}

func ordered(set map[*wire.Process]bool) []*wire.Process {
	list := make([]*wire.Process, 0, len(set))
	for p := range set {
		list = append(list, p)
	}
	slices.SortFunc(list, compareProcesses)
	return list
}

func (r *Recorder) countLocked(s *sums, rows []*row, folded int) {
	c := &r.counters
	c.Windows++
	c.Flows += s.flows
	c.Rows += uint64(len(rows))
	c.PortZeroFlows += s.portZero
	c.IgnoredFlows += s.ignored
	c.IgnoredSent += s.ignoredSent
	c.IgnoredReceived += s.ignoredReceived
	c.FoldedRows += uint64(folded)
	for _, row := range rows {
		c.Sent += row.sent
		c.Received += row.received
	}
}

func (r *Recorder) noticesLocked(now time.Time) []*wire.Record {
	var out []*wire.Record
	r.explainedLocked(now)
	for _, notice := range r.notices.take(now) {
		out = append(out, &wire.Record{Kind: &wire.Record_Notice{Notice: notice}})
	}
	r.counters.Notices += uint64(len(out))
	return out
}

// Exec gives the record of an execution, or nil for a fork and without `Every exe (not just conns)`. A new program is
// noticed here as in a window; its notice comes with the next one. UTC times are derived from boot time by the last window,
// and are the moment of the call before the first.
func (r *Recorder) Exec(p *capture.Process, l identity.Lineage) *wire.Record {
	if !r.options.EveryExe || p.Forked {
		return nil
	}
	if l.Process == nil {
		l.Process = unplaced(p)
	}
	l.Process, l.Parent = r.privacy.process(l.Process), r.privacy.process(l.Parent)
	l.Grandparent = r.privacy.process(l.Grandparent)
	now := r.clock()

	r.mu.Lock()
	defer r.mu.Unlock()
	r.counters.Execs++
	r.meetLocked(now, l.Process, false)
	r.meetLocked(now, l.Parent, true)
	at := capture.Moment{UTC: now.UnixNano(), Boot: p.Began}
	if r.bootUTC != 0 {
		at.UTC = p.Began + r.bootUTC
	}
	return &wire.Record{Kind: &wire.Record_Exec{Exec: &wire.Exec{
		Window: windowOf(at, at, now.Location()), Process: l.Process, Parent: l.Parent, Grandparent: l.Grandparent,
	}}}
}

// Error writes a line into error.log with the next Flush and gives a notice with the next Window. What others
// chose in the text is escaped already; here it is bounded, and what would break the line is escaped. The same text is
// written once a minute, its repetitions are counted.
func (r *Recorder) Error(text string) {
	now := r.clock()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errorLocked(now, text, text)
}

func (r *Recorder) errorLocked(now time.Time, key, text string) {
	if len(text) > errorLength {
		text = text[:errorLength-3] + "..."
		key = key[:min(len(key), errorLength)]
	}
	if !r.limit.admit(now, key, text) {
		return
	}
	r.errors.add(errorLine(now, text))
	if raw, err := sdk.Unescape(text); err == nil {
		text = string(raw) // who shows a notice escapes it
	}
	if shown := errorText(text); shown != "" {
		r.notices.add(noticeOf(now, wire.NoticeKind_NOTICE_ERROR, shown))
	}
}

// Counters gives a copy of the totals.
func (r *Recorder) Counters() Counters {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.counters
	c.Known, c.KnownForgotten = r.known.total, r.known.forgotten
	c.ErrorsSuppressed = r.limit.suppressed
	c.ExeLinesLost, c.ErrorLinesLost = r.exe.lost, r.errors.lost
	c.NoticesDropped = r.notices.dropped
	return c
}
