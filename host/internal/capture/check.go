package capture

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// Check loads and attaches everything as Open would, without counting or pinning anything, and tells what came of each
// hook. The error says what kept it from trying; a hook that fails is no error. What lacks names is taken for absent, as in
// [Options].
func Check(lacks []string) ([]Hook, error) {
	a, err := machine(lacks)
	if err != nil {
		return nil, err
	}
	spec, tag, err := prepare(&Options{
		Instance: "check", Interval: time.Second, RingPages: 1, Secret: make([]byte, 16), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, err
	}
	control, err := ebpf.NewMap(spec.Maps[kernelMapControlWord]) // holds no tag: nothing counts
	if err != nil {
		return nil, fmt.Errorf("make control word: %w", err)
	}
	defer control.Close()
	o := &objects{
		tag: tag, maps: map[string]*ebpf.Map{}, programs: map[string]*ebpf.Program{}, links: map[string]link.Link{},
	}
	defer o.close()
	if err := o.makeMaps(spec, control); err != nil {
		return nil, err
	}
	if err := o.choose(spec, a); err != nil && !errors.Is(err, ErrHook) {
		return nil, err
	}
	return o.hooks, nil
}
