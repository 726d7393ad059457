package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// How often the names of peers are looked up: until all are known, and then.
const (
	lookUpSoon  = 5 * time.Second
	lookUpAgain = time.Minute
)

// What is looked at of a plugin's directories, and how often.
const (
	lookEvery  = 5 * time.Second
	maxSockets = 1 << 20 // bytes beside its sockets: they lie in the host's run directory
)

// guard watches, beside an incarnation, over what only the host can see: the disk, the addresses of its peers, and whether
// others can see what it writes.
type guard struct {
	disk      *disk    // nil: no bound
	network   *network // nil: no list of peers
	directory place
	sockets   string // directory of its sockets
	board     *board
}

// look says what is wrong with the plugin's directories.
func (g *guard) look(ctx context.Context) error {
	if err := g.directory.find(); err != nil {
		return err
	}
	used, err := (&disk{paths: []string{g.sockets}}).measure(ctx)
	switch {
	case ctx.Err() != nil:
		return nil
	case err != nil:
		return fmt.Errorf("what it keeps beside its sockets cannot be measured: %w", err)
	case used > maxSockets:
		return fmt.Errorf("it keeps %d MiB beside its sockets, 1 is granted", used>>20)
	}
	return nil
}

// place is the plugin's directory as it was mounted for it.
type place struct {
	path string
	is   fs.FileInfo
}

// errReplaced says that the plugin writes to where nobody finds it.
var errReplaced = errors.New("its directory was deleted or replaced")

// find wraps errReplaced when something else, or nothing, is in its place. What cannot be looked at is left alone.
func (p place) find() error {
	now, err := os.Lstat(p.path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(now, p.is) {
		return errReplaced
	}
	return nil
}

// run returns when ctx is done, with nil, or with the reason why the plugin must be stopped.
func (g *guard) run(ctx context.Context) error {
	measure, lookUp := time.NewTimer(measureSoon), time.NewTimer(lookUpSoon)
	defer measure.Stop()
	defer lookUp.Stop()
	if g.disk == nil {
		measure.Stop()
	}
	if g.network == nil {
		lookUp.Stop()
	}
	before, looked := int64(0), time.Now()
	look, seen := time.NewTimer(lookEvery), make(chan error, 1)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
			go func() { seen <- g.look(ctx) }() // left behind by a file server that does not answer
		case err := <-seen:
			if err != nil {
				return err
			}
			look.Reset(lookEvery)
		case <-measure.C:
			used, err := g.disk.check(ctx)
			if err != nil {
				return err
			}
			measure.Reset(nextMeasure(used, used-before, time.Since(looked), g.disk.limitMB))
			before, looked = used, time.Now()
		case <-lookUp.C:
			lookUp.Reset(g.lookUp(ctx))
		}
	}
}

// nextMeasure is when to look again at what grew by some bytes since the last look: when half of what is left could be
// used up, but not all the time.
func nextMeasure(used, grown int64, since time.Duration, limitMB int) time.Duration {
	if grown <= 0 || since <= 0 {
		return measureEvery
	}
	left := float64(int64(limitMB)<<20 - used)
	until := time.Duration(left / 2 / float64(grown) * float64(since))
	return min(max(until, measureSoon), measureEvery)
}

// lookUp tells of the first of several failures, and says when to try again.
func (g *guard) lookUp(ctx context.Context) time.Duration {
	err := g.network.refresh(ctx)
	if err == nil || ctx.Err() != nil {
		g.network.told = false
		return lookUpAgain
	}
	if !g.network.told {
		g.network.told = true
		g.board.enter(g.board.state(), Event{Error: bounded(err.Error(), 1024)})
	}
	return lookUpSoon
}
