package hello

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/picosnitch/picosnitch/host/internal/name/pieces"
)

const (
	maxID      = 20 // bytes of a connection id
	maxPackets = 16 // coalesced in what is handed over as one datagram
	// keysSize is about what a pair of ciphers takes in memory.
	keysSize = 1024
)

// Connection collects the client hello from the datagrams that a client sends to one peer. Its zero value is ready. It is
// not safe for use by several goroutines.
type Connection struct {
	keys   *keys
	id     []byte // that the keys come from
	hello  *pieces.Buffer
	result Hello
	done   error // what Add returns for the rest of the connection, or nil
	ended  bool
}

// Size is the memory held, in bytes.
func (c *Connection) Size() int {
	size := 0
	if c.keys != nil {
		size = keysSize
	}
	if c.hello != nil {
		size += c.hello.Size()
	}
	return size
}

// Add takes a datagram, or several that were sent as one, or the beginning of them. Errors are those of [Parse]; ErrNone
// also for what is not QUIC. Packets that cannot be opened are passed over: anybody can make some that look like QUIC.
func (c *Connection) Add(datagram []byte) (Hello, error) {
	h, err := Hello{}, fmt.Errorf("not a QUIC client's first packet: %w", ErrNone)
	for range maxPackets {
		p, perr := next(datagram)
		if perr != nil {
			break
		}
		datagram = datagram[p.end:]
		if !p.initial {
			continue
		}
		frames, oerr := c.open(p)
		if oerr != nil {
			if !errors.Is(err, ErrMore) {
				err = oerr
			}
			continue
		}
		if h, err = c.read(frames, p.missing > 0); !errors.Is(err, ErrMore) {
			return h, err
		}
	}
	return h, err
}

// open tries the keys of the connection first: a client goes on using them when the server has chosen another id. A
// packet that they do not open begins another connection, or the same anew after a server asked for that (Retry).
func (c *Connection) open(p packet) ([]byte, error) {
	if c.keys != nil {
		frames, err := c.keys.open(p)
		if err == nil || bytes.Equal(c.id, p.id) {
			return frames, err
		}
	}
	k, err := clientKeys(p.version, p.id)
	if err != nil {
		return nil, err
	}
	frames, err := k.open(p)
	if err != nil {
		return nil, err
	}
	*c = Connection{keys: k, id: bytes.Clone(p.id), hello: pieces.New(MaxSize)}
	return frames, nil
}

// read adds the frames of one packet. Once the hello is complete, it repeats the result.
func (c *Connection) read(frames []byte, cut bool) (Hello, error) {
	if c.ended {
		return c.result, c.done
	}
	if err := collect(frames, cut, c.hello); err != nil {
		return Hello{}, err
	}
	h, err := Parse(c.hello.Bytes())
	if !errors.Is(err, ErrMore) {
		c.ended, c.result, c.done, c.hello = true, h, err, nil
	}
	return h, err
}

// packet is one packet with a long header.
type packet struct {
	version version
	initial bool
	id      []byte // destination connection id
	bytes   []byte // as it came, from its first byte to its last
	number  int    // where in bytes the packet number begins
	end     int    // where in the datagram the next packet begins
	missing uint64 // bytes at its end that were not handed over
}

// next reads the header of the first packet of a datagram (RFC 9000, section 17.2).
func next(datagram []byte) (packet, error) {
	none := fmt.Errorf("not a QUIC packet with a long header: %w", ErrNone)
	if len(datagram) < 7 || datagram[0]&0xc0 != 0xc0 {
		return packet{}, none
	}
	v, known := versionOf(binary.BigEndian.Uint32(datagram[1:]))
	kind := datagram[0] >> 4 & 3
	if !known || kind == v.retry {
		return packet{}, none
	}
	p := packet{version: v, initial: kind == v.initial}
	c := cursor{rest: datagram[5:]}
	p.id = c.vector8()
	source := c.vector8()
	if p.initial {
		c.vector() // token
	}
	length := c.varint()
	p.number = len(datagram) - len(c.rest)
	if c.err != nil || len(p.id) > maxID || len(source) > maxID {
		return packet{}, none
	}
	have := min(length, uint64(len(c.rest)))
	p.missing = length - have
	p.end = p.number + int(have)
	p.bytes = datagram[:p.end]
	return p, nil
}

// varint reads an integer of 1 to 8 bytes (RFC 9000, section 16).
func (c *cursor) varint() uint64 {
	first := c.uint8()
	value := uint64(first & 0x3f)
	for _, b := range c.skip(1<<(first>>6) - 1) {
		value = value<<8 | uint64(b)
	}
	return value
}

// vector reads bytes with their number before them as a varint.
func (c *cursor) vector() []byte {
	size := c.varint()
	if size > uint64(len(c.rest)) {
		c.err, c.rest = errShort, nil
		return nil
	}
	return c.skip(int(size))
}
