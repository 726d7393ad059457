package hello

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Parts of the record layer (RFC 8446, section 5.1).
const (
	recordHandshake = 22
	recordHeader    = 5
	maxRecord       = 1 << 14
)

// FromRecords reads the beginning of what a client sent over TCP: records, over which the client hello may be spread.
// Errors are those of [Parse]. It answers quickly for what is not TLS: the first byte tells.
func FromRecords(stream []byte) (Hello, error) {
	var message []byte
	for first := true; ; first = false {
		if err := plausible(stream); err != nil {
			return Hello{}, err
		}
		if len(stream) < recordHeader {
			break
		}
		size := int(binary.BigEndian.Uint16(stream[3:]))
		if size == 0 || size > maxRecord {
			return Hello{}, fmt.Errorf("a record of %d bytes: %w", size, ErrNone)
		}
		end := min(recordHeader+size, len(stream))
		if part := stream[recordHeader:end]; first {
			message = part // of one record, as nearly always: no copy
		} else {
			message = append(message[:len(message):len(message)], part...)
		}
		if h, err := Parse(message); !errors.Is(err, ErrMore) || end == len(stream) {
			return h, err
		}
		stream = stream[end:]
	}
	return Parse(message)
}

// plausible tells early that a stream is none of TLS records that carry a handshake.
func plausible(header []byte) error {
	if len(header) > 0 && header[0] != recordHandshake || len(header) > 1 && header[1] != 3 {
		return fmt.Errorf("not a TLS handshake: %w", ErrNone)
	}
	return nil
}
