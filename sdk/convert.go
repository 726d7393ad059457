package sdk

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// decodeSettings checks what the host sent, so that a plugin need not.
func decodeSettings(r *wire.ConfigureRequest) (Settings, error) {
	s := Settings{
		Config:     []byte(r.GetConfig()),
		Directory:  r.GetDirectory(),
		ReadOnly:   r.GetReadOnly(),
		HostSocket: r.GetHostSocket(),
	}
	for _, id := range []struct {
		name string
		to   *[16]byte
		from []byte
	}{
		{"host_id", &s.HostID, r.GetHostId()},
		{"boot_id", &s.BootID, r.GetBootId()},
		{"epoch", (*[16]byte)(&s.Epoch), r.GetEpoch()},
	} {
		if len(id.from) != len(id.to) {
			return Settings{}, fmt.Errorf("%s: %d bytes, want %d", id.name, len(id.from), len(id.to))
		}
		copy(id.to[:], id.from)
	}
	if len(bytes.TrimSpace(s.Config)) == 0 {
		s.Config = []byte("{}")
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(s.Config, &object); err != nil || object == nil {
		return Settings{}, errors.New("config: not a JSON object") // without the text: it may hold a secret
	}
	return s, nil
}

// decodeBatch decodes a request and checks everything that the contract promises to a sink.
func decodeBatch(r *wire.ApplyRequest) (*Batch, error) {
	if r.GetCodec() != wire.CodecProto {
		return nil, fmt.Errorf("codec %d: this plugin knows %d", r.GetCodec(), wire.CodecProto)
	}
	raw := r.GetBatch()
	if len(raw) > wire.MaxBatchBytes {
		return nil, fmt.Errorf("batch: %d bytes, at most %d", len(raw), wire.MaxBatchBytes)
	}
	b := &Batch{Batch: &wire.Batch{}, Raw: raw}
	if err := proto.Unmarshal(raw, b.Batch); err != nil {
		return nil, fmt.Errorf("batch: decode: %w", err)
	}
	if err := checkBatch(b.Batch); err != nil {
		return nil, err
	}
	copy(b.Epoch[:], b.Batch.GetEpoch())
	return b, nil
}

// checkBatch finds the first thing in a batch that breaks the contract.
func checkBatch(b *wire.Batch) error {
	switch count := uint64(len(b.GetRecords())); {
	case len(b.GetHostId()) != 16:
		return fmt.Errorf("batch: host_id: %d bytes, want 16", len(b.GetHostId()))
	case len(b.GetEpoch()) != 16:
		return fmt.Errorf("batch: epoch: %d bytes, want 16", len(b.GetEpoch()))
	case len(b.GetPrevious()) != 0 && len(b.GetPrevious()) != 32:
		return fmt.Errorf("batch: previous: %d bytes, want 32", len(b.GetPrevious()))
	case len(b.GetRoot()) != 0 && len(b.GetRoot()) != 32:
		return fmt.Errorf("batch: root: %d bytes, want 32", len(b.GetRoot()))
	case b.GetFirst() == 0:
		return errors.New("batch: first is 0, an epoch begins at 1")
	case count == 0 || count > wire.MaxBatchRecords:
		return fmt.Errorf("batch: %d records, want 1 to %d", count, wire.MaxBatchRecords)
	case b.GetLast() < b.GetFirst() || b.GetLast()-b.GetFirst() != count-1:
		return fmt.Errorf("batch: %d records for the range %d..%d", count, b.GetFirst(), b.GetLast())
	}
	for i, r := range b.GetRecords() {
		if want := b.GetFirst() + uint64(i); r.GetSequence() != want {
			return fmt.Errorf("batch: record %d of it has sequence %d, want %d", i, r.GetSequence(), want)
		}
		if err := checkRecord(r); err != nil {
			return fmt.Errorf("record %d: %w", r.GetSequence(), err)
		}
	}
	return nil
}

func (w Watermark) encode() *wire.Watermark {
	return &wire.Watermark{Epoch: w.Epoch[:], Sequence: w.Sequence}
}
