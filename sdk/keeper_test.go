package sdk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// keeper is a fake with every part of looking after a store.
type keeper struct {
	fake
	export func(io.Writer) error
	take   func(ctx context.Context, name string, size uint64, r io.Reader, progress func(*wire.ImportProgress) error) error
	pages  int
	fail   error
}

func (k *keeper) Export(_ context.Context, _ *wire.ExportRequest, w io.Writer) error {
	return k.export(w)
}

func (k *keeper) Import(
	ctx context.Context, name string, size uint64, r io.Reader, progress func(*wire.ImportProgress) error,
) error {
	return k.take(ctx, name, size, r, progress)
}

func (k *keeper) Check(_ context.Context, page func(*wire.CheckPage) error) error {
	return repeat(k, func(i int) error { return page(&wire.CheckPage{Facts: []string{fmt.Sprint(i)}}) })
}

func (k *keeper) Compact(_ context.Context, progress func(*wire.CompactProgress) error) error {
	return repeat(k, func(i int) error { return progress(&wire.CompactProgress{Before: 9, After: uint64(i)}) })
}

func (k *keeper) Evidence(_ context.Context, _ *wire.EvidenceRequest, page func(*wire.EvidencePage) error) error {
	return repeat(k, func(i int) error { return page(&wire.EvidencePage{Batches: []*wire.BatchEvidence{{First: uint64(i)}}}) })
}

func repeat(k *keeper, send func(int) error) error {
	for i := range k.pages {
		if err := send(i); err != nil {
			return err
		}
	}
	return k.fail
}

// received reads a stream to its end.
func received[M any](stream grpc.ServerStreamingClient[M], err error) (pages []*M, _ error) {
	for err == nil {
		var page *M
		if page, err = stream.Recv(); err == nil {
			pages = append(pages, page)
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return pages, err
}

func TestAnExportTravelsInPieces(t *testing.T) {
	t.Parallel()
	file := bytes.Repeat([]byte("0123456789abcdef"), 50_000) // 800,000 bytes
	for name, write := range map[string]func(io.Writer) error{
		"at once": func(w io.Writer) error { _, err := w.Write(file); return err },
		"in little bits": func(w io.Writer) error {
			for rest := file; len(rest) > 0; rest = rest[min(len(rest), 100):] {
				if _, err := w.Write(rest[:min(len(rest), 100)]); err != nil {
					return err
				}
			}
			return nil
		},
	} {
		c, _ := ready(t, &keeper{export: write})
		pieces, err := received(c.Keeper.Export(t.Context(), &wire.ExportRequest{}))
		var got []byte
		for _, p := range pieces {
			if len(p.Data) == 0 || len(p.Data) > maxPiece {
				t.Errorf("%s: a piece of %d bytes", name, len(p.Data))
			}
			got = append(got, p.Data...)
		}
		if err != nil || !bytes.Equal(got, file) || len(pieces) > 5 {
			t.Errorf("%s: %d bytes in %d pieces, %v", name, len(got), len(pieces), err)
		}
	}
}

func TestErrorsOfAKeeperBlameTheRequestOrThePlugin(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		err  error
		code codes.Code
	}{{fmt.Errorf("no such format: %w", ErrQuery), codes.InvalidArgument}, {errors.New("disk"), codes.Unknown}, {nil, codes.OK}} {
		c, _ := ready(t, &keeper{export: func(io.Writer) error { return test.err }, pages: 3, fail: test.err})
		_, err := received(c.Keeper.Export(t.Context(), &wire.ExportRequest{}))
		want(t, err, test.code, "")
		checks, err := received(c.Keeper.Check(t.Context(), &wire.CheckRequest{}))
		want(t, err, test.code, "")
		_, err = received(c.Keeper.Compact(t.Context(), &wire.CompactRequest{}))
		want(t, err, test.code, "")
		_, err = received(c.Keeper.Evidence(t.Context(), &wire.EvidenceRequest{}))
		want(t, err, test.code, "")
		if len(checks) != 3 {
			t.Errorf("%d pages, want 3", len(checks))
		}
	}
	c, _ := ready(t, &keeper{export: func(io.Writer) error { panic("odd") }})
	_, err := received(c.Keeper.Export(t.Context(), &wire.ExportRequest{}))
	want(t, err, codes.Internal, "panic: odd")
	_, err = received(c.Keeper.Evidence(t.Context(), &wire.EvidenceRequest{HostId: []byte{1}}))
	want(t, err, codes.InvalidArgument, "host_id: 1 bytes")
}

// send imports a file in pieces of 1,000 bytes, announcing size.
func send(t *testing.T, c *Client, file []byte, size uint64) ([]*wire.ImportProgress, error) {
	t.Helper()
	stream, err := c.Keeper.Import(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	first := &wire.ImportPiece{Name: "old.db", Size: size}
	for rest := file; first != nil || len(rest) > 0; {
		piece := &wire.ImportPiece{}
		if first != nil {
			piece, first = first, nil
		}
		n := min(len(rest), 1000)
		piece.Data, rest = rest[:n], rest[n:]
		if err := stream.Send(piece); err != nil {
			break // the answer says why
		}
	}
	_ = stream.CloseSend() // always nil
	return received(stream, nil)
}

func TestAnImportReadsTheWholeFile(t *testing.T) {
	t.Parallel()
	file := bytes.Repeat([]byte("row\n"), 5_000)
	c, _ := ready(t, &keeper{take: func(_ context.Context, name string, size uint64, r io.Reader, progress func(*wire.ImportProgress) error) error {
		got, err := io.ReadAll(r)
		if err != nil || name != "old.db" || size != uint64(len(file)) || !bytes.Equal(got, file) {
			return fmt.Errorf("got %q of %d bytes: %d bytes, %w", name, size, len(got), err)
		}
		return errors.Join(progress(&wire.ImportProgress{Rows: 1}), progress(&wire.ImportProgress{Rows: 5000, Done: true}))
	}})
	progress, err := send(t, c, file, uint64(len(file)))
	if err != nil || len(progress) != 2 || !progress[1].GetDone() {
		t.Errorf("got %v, %v", progress, err)
	}
	readAll := func(_ context.Context, _ string, _ uint64, r io.Reader, _ func(*wire.ImportProgress) error) error {
		_, err := io.ReadAll(r)
		return err
	}
	c, _ = ready(t, &keeper{take: readAll})
	for size, words := range map[uint64]string{20_001: "ends after 20000 of 20001", 19_999: "longer than the 19999"} {
		_, err := send(t, c, file, size)
		want(t, err, codes.InvalidArgument, words)
	}
	_, err = send(t, c, nil, 0)
	want(t, err, codes.OK, "")
	stream, err := c.Keeper.Import(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_ = stream.CloseSend()
	_, err = received(stream, nil)
	want(t, err, codes.InvalidArgument, "no file came")
}

func TestAnImportThatGivesUpDoesNotWaitForTheRest(t *testing.T) {
	t.Parallel()
	c, _ := ready(t, &keeper{take: func(context.Context, string, uint64, io.Reader, func(*wire.ImportProgress) error) error {
		return fmt.Errorf("x.db: %w: not one of ours", ErrQuery)
	}})
	_, err := send(t, c, make([]byte, 5_000_000), 5_000_000)
	want(t, err, codes.InvalidArgument, "import: x.db: not one of ours")
	_, err = c.Plugin.Drain(t.Context(), &wire.DrainRequest{})
	want(t, err, codes.OK, "")
}

func TestADrainEndsAnImportWhoseFileDoesNotCome(t *testing.T) {
	t.Parallel()
	reading := make(chan struct{})
	var ended error
	c, _ := ready(t, &keeper{take: func(_ context.Context, _ string, _ uint64, r io.Reader, _ func(*wire.ImportProgress) error) error {
		close(reading)
		_, ended = io.ReadAll(r)
		return ended
	}})
	stream, err := c.Keeper.Import(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&wire.ImportPiece{Size: 10, Data: []byte("half ")}); err != nil {
		t.Fatal(err)
	}
	<-reading
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	_, err = c.Plugin.Drain(ctx, &wire.DrainRequest{})
	want(t, err, codes.OK, "")
	_, err = received(stream, nil)
	want(t, err, codes.Canceled, "")
	if !errors.Is(ended, context.Canceled) {
		t.Errorf("the reader ended with %v", ended)
	}
}

func TestAReadOnlyStoreIsNotChanged(t *testing.T) {
	t.Parallel()
	c, _ := connect(t, &keeper{export: func(io.Writer) error { return nil }})
	r := configureRequest()
	r.ReadOnly = true
	if _, err := c.Plugin.Configure(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	_, err := send(t, c, nil, 0)
	want(t, err, codes.FailedPrecondition, "read-only")
	_, err = received(c.Keeper.Compact(t.Context(), &wire.CompactRequest{}))
	want(t, err, codes.FailedPrecondition, "read-only")
	_, err = received(c.Keeper.Export(t.Context(), &wire.ExportRequest{}))
	want(t, err, codes.OK, "")
}

func TestAPartThatAStoreLacksIsUnimplemented(t *testing.T) {
	t.Parallel()
	p := struct {
		*fake
		check
	}{&fake{}, check{}}
	c, _ := ready(t, p)
	_, err := received(c.Keeper.Check(t.Context(), &wire.CheckRequest{}))
	want(t, err, codes.OK, "")
	_, err = received(c.Keeper.Export(t.Context(), &wire.ExportRequest{}))
	want(t, err, codes.Unimplemented, "export")
	_, err = received(c.Keeper.Compact(t.Context(), &wire.CompactRequest{}))
	want(t, err, codes.Unimplemented, "compact")
	_, err = received(c.Keeper.Evidence(t.Context(), &wire.EvidenceRequest{}))
	want(t, err, codes.Unimplemented, "evidence")
	_, err = send(t, c, nil, 0)
	want(t, err, codes.Unimplemented, "import")
}

// check is the part of a store that finds nothing.
type check struct{}

func (check) Check(context.Context, func(*wire.CheckPage) error) error { return nil }

func TestKindsAndFeaturesFollowFromTheMethods(t *testing.T) {
	t.Parallel()
	type trunk struct{ Plugin }
	for name, test := range map[string]struct {
		plugin   Plugin
		kinds    []string
		features []string
	}{
		"store":  {&fake{}, []string{"sink", "store"}, nil},
		"keeper": {&keeper{}, []string{"sink", "store"}, []string{"check", "compact", "evidence", "export", "import"}},
		"checker": {struct {
			*fake
			check
		}{&fake{}, check{}}, []string{"sink", "store"}, []string{"check"}},
		"verdicts": {&judge{}, []string{"verdicts"}, nil},
		"locator":  {&locator{}, []string{"locator"}, nil},
		"ui":       {&page{}, []string{"ui"}, nil},
		"none":     {trunk{&fake{}}, nil, nil},
	} {
		c, _ := connect(t, test.plugin)
		d, err := c.Plugin.Describe(t.Context(), &wire.DescribeRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([][]string{test.kinds, test.features}, [][]string{d.GetKinds(), d.GetFeatures()}); diff != "" {
			t.Errorf("%s: kinds and features, -want +got:\n%s", name, diff)
		}
	}
	if got := features(&keeper{}, []string{"slow", "check"}); !cmp.Equal(got, []string{"check", "compact", "evidence", "export", "import", "slow"}) {
		t.Errorf("named and found features are %q", got)
	}
}
