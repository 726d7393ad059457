package hello

import (
	"errors"
	"fmt"

	"github.com/picosnitch/picosnitch/host/internal/name/pieces"
)

// Frames that a client's first packets may hold (RFC 9000, section 12.4).
const (
	framePadding = 0x00
	framePing    = 0x01
	frameAck     = 0x02
	frameAckECN  = 0x03
	frameCrypto  = 0x06
	frameClose   = 0x1c
)

// collect puts the handshake bytes of a packet's frames into their places; cut tells that the last frame may go on.
func collect(frames []byte, cut bool, into *pieces.Buffer) error {
	c := cursor{rest: frames}
	for len(c.rest) > 0 {
		switch kind := c.varint(); kind {
		case framePadding, framePing:
		case frameAck, frameAckECN:
			acknowledgement(&c, kind == frameAckECN)
		case frameCrypto:
			offset := c.varint()
			size := c.varint()
			if c.err != nil || size > uint64(len(c.rest)) && !cut {
				c.err, c.rest = errShort, nil
				break
			}
			data := c.skip(int(min(size, uint64(len(c.rest)))))
			if err := into.Add(offset, data); err != nil {
				return fmt.Errorf("a client hello in pieces: %w", errors.Join(err, ErrNone))
			}
		case frameClose:
			return fmt.Errorf("the client closed the connection: %w", ErrNone)
		default:
			return fmt.Errorf("a frame of type %#x: %w", kind, ErrNone)
		}
	}
	if c.err != nil && !cut {
		return fmt.Errorf("a frame that is cut off: %w", ErrNone)
	}
	return nil
}

// acknowledgement skips one. Each turn of the loop takes bytes, so that a huge count ends with them.
func acknowledgement(c *cursor, ecn bool) {
	c.varint() // largest
	c.varint() // delay
	ranges := c.varint()
	c.varint() // first range
	for ; ranges > 0 && c.err == nil; ranges-- {
		c.varint() // gap
		c.varint() // length
	}
	if ecn {
		c.varint()
		c.varint()
		c.varint()
	}
}
