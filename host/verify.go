package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/picosnitch/picosnitch/host/internal/api"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

const verifyLong = `Check the history against itself: every batch of records carries a hash of its rows, chained to the batch before it. What is
missing, was added, was altered or does not fit is named; what retention removed, and what the store left out on purpose, is
counted. That the newest records are missing is told while the daemon runs, which knows what was stored; that an earlier run
lost its end, or is gone, only --against tells.

With --against, also check another store, such as an SQL server that this machine can only add to, and compare the two. Rows
that differ are named with what differs. Only that proves anything against somebody who has been root on this machine: who can
rewrite the whole local history can rewrite its hashes too. What one of the two never got, since it was set up later, is told
as missing. What is still waiting to be delivered is not: it is counted. Without the daemon nobody knows what waits; then
nothing behind the last batch of the other store is compared.

The exit code is 0 if nothing was found, 1 if something was, or after a failure.`

const verifyExample = `  picosnitch verify
  picosnitch verify --against sqlserver`

// verifyVerb is verify.
func (c *call) verifyVerb() *cobra.Command {
	var store, against string
	verb := &cobra.Command{
		Use: "verify", Short: "Check that nothing was removed from the history or altered", Long: verifyLong, Example: verifyExample,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.verify(cmd.Context(), store, against) },
	}
	verb.Flags().StringVar(&store, "store", "", "`plugin` whose history is checked (default: sqlite, then sqlserver)")
	verb.Flags().StringVar(&against, "against", "", "`plugin` whose history it is compared with")
	return verb
}

// verify reads what the stores can prove, and tells what is wrong.
func (c *call) verify(ctx context.Context, store, against string) error {
	stored, _, err := c.deliveries(ctx)
	if err != nil {
		return err
	}
	own, err := c.evidence(ctx, store)
	if err != nil {
		return err
	}
	own.reaches(markOf(stored, cmp.Or(store, defaultStore)))
	findings, facts := own.findings, own.facts()
	if against != "" {
		compared, err := c.compare(ctx, own, store, against)
		if err != nil {
			return err
		}
		rows, err := c.differences(ctx, store, against, compared.doubts)
		if err != nil {
			return err
		}
		own.more += compared.theirs.more + compared.found.more
		findings = slices.Concat(findings, compared.theirs.findings, compared.found.findings, rows)
		facts = append(own.facts(), compared.facts()...)
	}
	if err := writeLines(c.out, "found: ", findings, facts); err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	if len(findings) > 0 {
		return &exitError{code: exitFindings, err: fmt.Errorf("verify: %d findings", len(findings)+own.more)}
	}
	_, err = fmt.Fprintln(c.out, verified(against))
	return err
}

// compare reads what another store holds of the same hosts. If that has more, this one is read again: what came meanwhile is
// in the other one, too, and only what this one still lacks afterwards is missing.
func (c *call) compare(ctx context.Context, own *proof, store, against string) (*comparison, error) {
	compared := &comparison{ours: own, name: against}
	before, running, err := c.deliveries(ctx)
	if err != nil {
		return nil, err
	}
	if compared.theirs, err = c.evidenceFor(ctx, against, own); err != nil {
		return nil, err
	}
	compared.running, compared.sent = running, markOf(before, against)
	if !running {
		compared.sent = reached(own.order, compared.theirs)
	}
	if compared.later = own; !own.holds(compared.theirs) {
		after, _, err := c.deliveries(ctx)
		if err != nil {
			return nil, err
		}
		compared.kept = markOf(after, cmp.Or(store, defaultStore))
		if compared.later, err = c.evidence(ctx, store); err != nil {
			return nil, err
		}
	}
	compared.compare()
	return compared, nil
}

// deliveries asks the daemon how far each plugin is, if it runs.
func (c *call) deliveries(ctx context.Context) (list []*wire.PluginStatus, running bool, err error) {
	runDir, err := c.runDir()
	if err != nil {
		return nil, false, err
	}
	client, err := api.Dial(runDir)
	if errors.Is(err, api.ErrNotRunning) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("verify: %w", err)
	}
	defer func() { _ = client.Close() }()
	if list, err = client.Plugins(ctx); err != nil {
		return nil, false, fmt.Errorf("verify: %w", err)
	}
	return list, true, nil
}

// evidence reads what a store holds of every host.
func (c *call) evidence(ctx context.Context, store string) (*proof, error) {
	own := newProof("")
	err := c.keep(ctx, "verify", store, true, func(k *api.Keeper) error {
		return k.Evidence(ctx, &wire.EvidenceRequest{Store: store}, own.take)
	})
	return own, err
}

// evidenceFor reads what another store holds of the same hosts.
func (c *call) evidenceFor(ctx context.Context, store string, own *proof) (*proof, error) {
	other := newProof(store)
	err := c.keep(ctx, "verify --against "+store, store, true, func(k *api.Keeper) error {
		for _, host := range own.hostIDs() {
			if err := k.Evidence(ctx, &wire.EvidenceRequest{Store: store, HostId: host}, other.take); err != nil {
				return err
			}
		}
		return nil
	})
	return other, err
}

func verified(against string) string {
	text := "nothing is missing and nothing was altered"
	if against != "" {
		text += ", and " + strings.ToValidUTF8(oneLine(against), "?") + " has the same"
	}
	return text
}
