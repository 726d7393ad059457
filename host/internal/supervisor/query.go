package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// ErrNoStore is wrapped by Query's error when no store can answer.
var ErrNoStore = errors.New("no store is running")

// Query asks a running store plugin, the named one or, with "", sqlite, then sqlserver, then any. page is called for each
// part of the answer in order; its error ends the query and is returned. ctx should have a deadline.
func (s *Supervisor) Query(ctx context.Context, store string, q *wire.Query, page func(*wire.QueryPage) error) error {
	client, err := s.pickStore(store)
	if err != nil {
		return err
	}
	return ask(ctx, client, q, page)
}

func (s *Supervisor) pickStore(name string) (*sdk.Client, error) {
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
		if w := byName[candidate]; w != nil {
			if client := w.queryable(); client != nil {
				return client, nil
			}
		}
	}
	if name == "" {
		return nil, fmt.Errorf("%w: see picosnitch plugins", ErrNoStore)
	}
	w := byName[name]
	if w == nil {
		return nil, fmt.Errorf("%w: no plugin is called %.40q", ErrNoStore, name)
	}
	return nil, fmt.Errorf("%w: %s is %s", ErrNoStore, name, w.board.state())
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
