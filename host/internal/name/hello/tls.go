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
	message, err := handshake(stream)
	h, perr := Parse(message)
	if errors.Is(perr, ErrMore) && err != nil {
		return Hello{}, err // no more will come
	}
	return h, perr
}

// handshake joins the parts of the handshake message that records at the front of stream carry. The error says why it
// cannot go on, when that is not just the end of what is there.
func handshake(stream []byte) (message []byte, err error) {
	for first := true; len(stream) > 0 && len(message) < 4+MaxSize; first = false {
		if err := plausible(stream); err != nil {
			return message, err
		}
		if len(stream) < recordHeader {
			return message, nil
		}
		size := int(binary.BigEndian.Uint16(stream[3:]))
		if size == 0 || size > maxRecord {
			return message, fmt.Errorf("a record of %d bytes: %w", size, ErrNone)
		}
		end := min(recordHeader+size, len(stream))
		if part := stream[recordHeader:end:end]; first {
			message = part // of one record, as nearly always: no copy, and append makes one
		} else {
			message = append(message, part...)
		}
		stream = stream[end:]
	}
	return message, nil
}

// plausible tells early that a stream is none of TLS records that carry a handshake.
func plausible(header []byte) error {
	if len(header) > 0 && header[0] != recordHandshake || len(header) > 1 && header[1] != 3 {
		return fmt.Errorf("not a TLS handshake: %w", ErrNone)
	}
	return nil
}
