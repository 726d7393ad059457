package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/picosnitch/picosnitch/host/internal/api"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

const verifyLong = `Check the history against itself: every batch of records carries a hash of its rows, chained to the batch before it. What is
missing, was altered or does not fit is named; what retention removed, and what the store left out on purpose, is counted.

With --against, also compare it with another store, such as an SQL server that this machine can only add to. Only that proves
anything against somebody who has been root on this machine: who can rewrite the whole local history can rewrite its hashes
too. What only one of the two has ever had (one of them was set up later) is told as missing.

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
	own, err := c.evidence(ctx, store)
	if err != nil {
		return err
	}
	findings := own.findings
	if against != "" {
		other, err := c.evidenceFor(ctx, against, own)
		if err != nil {
			return err
		}
		// What came meanwhile is in the other one, too: only what this one still lacks afterwards is missing.
		later, err := c.evidence(ctx, store)
		if err != nil {
			return err
		}
		findings = append(findings, own.compare(other, later, against)...)
	}
	if err := writeLines(c.out, "found: ", findings, own.facts()); err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	if len(findings) > 0 {
		return &exitError{code: exitFindings, err: fmt.Errorf("verify: %d findings", len(findings)+own.more)}
	}
	_, err = fmt.Fprintln(c.out, verified(against))
	return err
}

// evidence reads what a store holds of every host.
func (c *call) evidence(ctx context.Context, store string) (*proof, error) {
	own := newProof()
	err := c.keep(ctx, "verify", store, true, func(k *api.Keeper) error {
		return k.Evidence(ctx, store, nil, func(p *wire.EvidencePage) error { return own.take(p) })
	})
	return own, err
}

// evidenceFor reads what another store holds of the same hosts.
func (c *call) evidenceFor(ctx context.Context, store string, own *proof) (*proof, error) {
	other := newProof()
	err := c.keep(ctx, "verify --against "+store, store, true, func(k *api.Keeper) error {
		for _, host := range own.hostIDs() {
			if err := k.Evidence(ctx, store, host, func(p *wire.EvidencePage) error { return other.take(p) }); err != nil {
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
