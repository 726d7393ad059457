package sdk

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
)

// present runs the interface of a configured plugin until it is drained. An interface that ends earlier is of no use to
// anybody: the plugin ends with it, and the host starts it anew.
func (s *server) present(ui UI) error {
	ctx, leave, err := s.life.enter(context.Background(), "serve", false)
	if err != nil {
		return err
	}
	go func() {
		defer leave() // Drain waits for this
		err := serveUI(ctx, ui)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("it returned before it was drained")
		}
		s.log.Error("plugin interface ended: " + clip(err.Error()))
		s.abandon()
	}()
	return nil
}

// serveUI makes a panic of Serve its error.
func serveUI(ctx context.Context, ui UI) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("panic: %v\n%s", cause, debug.Stack())
		}
	}()
	return ui.Serve(ctx)
}
