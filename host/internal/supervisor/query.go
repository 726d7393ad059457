package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// ErrNoStore is wrapped by Query's error when no store can answer.
var ErrNoStore = errors.New("no store is running")

// storePatience is how long a question waits for a store that is about to run: the daemon answers before its plugins do.
const storePatience = 10 * time.Second

// Query asks a running store plugin, the named one or, with "", sqlite, then sqlserver, then any. It waits a few seconds
// for one that is just starting. page is called for each part of the answer in order; its error ends the query and is
// returned. ctx should have a deadline.
func (s *Supervisor) Query(ctx context.Context, store string, q *wire.Query, page func(*wire.QueryPage) error) error {
	client, err := s.awaitStore(ctx, store)
	if err != nil {
		return err
	}
	return ask(ctx, client, q, page)
}

func (s *Supervisor) awaitStore(ctx context.Context, name string) (*sdk.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, storePatience)
	defer cancel()
	for {
		client, coming, err := s.pickStore(name)
		if client != nil || coming == nil {
			return client, err
		}
		select {
		case <-coming:
		case <-s.ended:
			return nil, err
		case <-ctx.Done():
			return nil, err
		}
	}
}

// pickStore finds a store to ask. Without one, coming is closed by the next change of one that is about to run; it is nil
// when there is none.
func (s *Supervisor) pickStore(name string) (client *sdk.Client, coming <-chan struct{}, err error) {
	byName := map[string]*worker{}
	order := []string{name}
	if name == "" {
		order = []string{"sqlite", "sqlserver"}
	}
	for _, w := range s.all() {
		byName[w.spec.Name] = w
		if name == "" {
			order = append(order, w.spec.Name)
		}
	}
	for _, candidate := range order {
		w := byName[candidate]
		if w == nil {
			continue
		}
		changed := w.board.changing() // before looking: no change is missed
		if client := w.queryable(); client != nil {
			return client, nil, nil
		}
		if coming == nil && w.coming() {
			coming = changed
		}
	}
	if name == "" {
		return nil, coming, fmt.Errorf("%w: see picosnitch plugins", ErrNoStore)
	}
	w := byName[name]
	if w == nil {
		return nil, nil, fmt.Errorf("%w: no plugin is called %.40q", ErrNoStore, name)
	}
	return nil, coming, fmt.Errorf("%w: %s is %s", ErrNoStore, name, w.board.state())
}

// coming tells whether the plugin is about to run, for all that is known.
func (w *worker) coming() bool {
	switch w.board.state() {
	case StateStopped, StateStarting, StateConfiguring, StateDraining:
		return !closed(w.ended)
	}
	return false
}

// ask forwards the pages of an answer.
func ask(ctx context.Context, client *sdk.Client, q *wire.Query, page func(*wire.QueryPage) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the stream when page has had enough
	stream, err := client.Store.Query(ctx, q)
	if err != nil {
		return said("query", err)
	}
	for {
		p, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return said("query", err)
		}
		if err := page(p); err != nil {
			return err
		}
	}
}
