package capture

import (
	"context"
	"errors"
)

// errMoved tells that the window ended while it was looked at.
var errMoved = errors.New("the window ended meanwhile")

// Peek reads the window that is being counted now, as far as it has come: its generation, its start, End as the moment of
// reading, and its flows. It takes nothing from the window and holds up nobody; sums that change meanwhile are of different
// moments. Losses and Position are not set. It may be called from any goroutine.
func (k *Kernel) Peek(ctx context.Context) (*Window, error) {
	for {
		w, err := k.peek()
		if !errors.Is(err, errMoved) || ctx.Err() != nil {
			return w, err
		}
	}
}

func (k *Kernel) peek() (*Window, error) {
	k.mu.Lock()
	generation, began := k.generation, k.began
	k.mu.Unlock()

	pair, now := int(generation&1), Now()
	w := &Window{Generation: generation, Start: at(began, now), End: now}
	var err error
	w.Flows, err = k.convert.flows(k.objects.flows(pair), k.objects.owners(pair))
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.generation != generation { // the maps may be empty by now, or those of the window after the next
		return nil, errMoved
	}
	return w, nil
}
