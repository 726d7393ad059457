package sdk

import "slices"

// Marks are the watermarks of a sink that stores exactly once, and the decision that follows from them (docs/wire.md,
// "Exactly once"). The sink keeps [Marks.List] beside its records, in the same transaction or so that a crash between the
// two is found out; one that looks them up in a database may use [Sequel] instead. The zero value holds nothing. It is not
// safe for concurrent use: Apply needs none.
type Marks struct {
	list   []Watermark // newest last
	sequel Sequel
}

// NewMarks begins with what was stored, newest last. The list is copied; of an epoch that stands in it twice the last
// entry counts.
func NewMarks(list []Watermark) *Marks {
	m := new(Marks)
	for _, mark := range list {
		m.set(mark)
	}
	return m
}

// Decide says whether Apply is to store the batch. With false, Apply returns the error: nil for a batch that was stored
// before, a *[Rewind] for one that does not follow what is held. A batch that comes again right after its Rewind is to be
// stored: the host has nothing older.
func (m *Marks) Decide(b *Batch) (store bool, answer error) {
	return m.sequel.Decide(b, m.have(b.Epoch))
}

// With is the list as it will be once b is stored: what to write together with it. m does not change.
func (m *Marks) With(b *Batch) []Watermark {
	after := Marks{list: slices.Clone(m.list)}
	after.Stored(b)
	return after.list
}

// Stored notes that every record of b is safe.
func (m *Marks) Stored(b *Batch) {
	m.sequel.Stored()
	m.set(Watermark{Epoch: b.Epoch, Sequence: b.Last})
}

// List is what Watermarks returns: newest last, at most as many as the host wants. The caller owns it.
func (m *Marks) List() []Watermark { return slices.Clone(m.list) }

func (m *Marks) have(epoch Epoch) uint64 {
	for _, mark := range m.list {
		if mark.Epoch == epoch {
			return mark.Sequence
		}
	}
	return 0
}

// set puts a mark at its epoch's place, a new epoch at the end.
func (m *Marks) set(mark Watermark) {
	i := slices.IndexFunc(m.list, func(have Watermark) bool { return have.Epoch == mark.Epoch })
	if i >= 0 {
		m.list[i] = mark
		return
	}
	m.list = append(m.list, mark)
	if over := len(m.list) - maxWatermarks; over > 0 {
		m.list = slices.Delete(m.list, 0, over)
	}
}
