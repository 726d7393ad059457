package journal

// deaths is how often a sink must die over the same records in a row before they are suspected.
const deaths = 3

// Suspects narrows down which records a sink cannot take when it does not say so: it dies over them, or refuses them all
// together. Halves are tried until one record is left alone. It lives as long as its Cursor, which is longer than any
// incarnation of the sink, and belongs to the goroutine that the Cursor belongs to.
type Suspects struct {
	bad  Span // where the culprit must be; Last 0: nothing is suspected
	died Span // what the sink died over last
	n    int  // how often in a row
}

// Suspects of this sink.
func (c *Cursor) Suspects() *Suspects { return &c.suspects }

// Cut says up to where to hand over of the records s, which the sink lacks of one batch: to their end as long as nothing
// is suspected.
func (p *Suspects) Cut(s Span) (last uint64) {
	if !p.within(s) {
		return s.Last
	}
	if p.bad.First > s.First {
		return p.bad.First - 1
	}
	return p.bad.First + (p.bad.Last-p.bad.First)/2
}

// within tells whether the suspects are among s, and forgets those that the sink has by now.
func (p *Suspects) within(s Span) bool {
	if p.bad.Last == 0 || p.bad.Epoch != s.Epoch || p.bad.Last < s.First || p.bad.First > s.Last {
		return false
	}
	p.bad.First = max(p.bad.First, s.First)
	return true
}

// Died notes that the sink died over the records s. Deaths with other causes must not condemn records, so that it takes
// three before anything is suspected, and two over a single record that is left.
func (p *Suspects) Died(s Span) {
	if p.died != s {
		p.died, p.n = s, 0
	}
	if p.n++; p.n >= p.enough(s) {
		p.Refused(s)
	}
}

// enough is how many deaths over s mean something.
func (p *Suspects) enough(s Span) int {
	narrowed := p.bad.Last != 0 && p.bad.Epoch == s.Epoch && p.bad.First <= s.First && s.Last <= p.bad.Last
	switch {
	case narrowed && s.First < s.Last:
		return 1
	case narrowed:
		return 2
	}
	return deaths
}

// Blamed tells whether s is a single record that the sink has died over often enough: it is not to be handed over again.
func (p *Suspects) Blamed(s Span) bool { return s.First == s.Last && p.died == s && p.n >= p.enough(s) }

// Refused notes that the sink refused the records s together.
func (p *Suspects) Refused(s Span) { p.bad = s }

// Passed notes that the records s are off the list: the sink has them, or goes without them.
func (p *Suspects) Passed(s Span) {
	if p.died == s {
		p.died, p.n = Span{}, 0
	}
	if p.bad.Last == 0 || p.bad.Epoch != s.Epoch || s.Last < p.bad.First {
		return
	}
	if s.Last >= p.bad.Last {
		p.bad = Span{}
		return
	}
	p.bad.First = s.Last + 1
}
