package chaos

import (
	"slices"
	"time"
)

// agenda is what is to be done later, on the test's goroutine.
type agenda struct{ items []item }

type item struct {
	at time.Time
	do func()
}

// in adds something for later. What is due first is done first.
func (a *agenda) in(wait time.Duration, do func()) {
	a.items = append(a.items, item{time.Now().Add(wait), do})
	slices.SortStableFunc(a.items, func(x, y item) int { return x.at.Compare(y.at) })
}

// until does what is due, until end.
func (a *agenda) until(end time.Time) {
	for {
		next := end
		if len(a.items) > 0 && a.items[0].at.Before(end) {
			next = a.items[0].at
		}
		time.Sleep(time.Until(next))
		if next.Equal(end) {
			return
		}
		a.first()
	}
}

// all does everything, each thing in its time.
func (a *agenda) all() {
	for len(a.items) > 0 {
		time.Sleep(time.Until(a.items[0].at))
		a.first()
	}
}

func (a *agenda) first() {
	do := a.items[0].do
	a.items = a.items[1:]
	do()
}
