package hello

import (
	"encoding/binary"
	"errors"
	"fmt"
)

var (
	// ErrNone is wrapped where the bytes are no client hello, or one without a server name.
	ErrNone = errors.New("no server name")
	// ErrMore is returned while the client hello is not there as a whole. The [Hello] beside it is what is known so far.
	ErrMore = errors.New("the client hello goes on")
)

// MaxSize bounds a client hello, in bytes. Those of today's browsers have about 2,000.
const MaxSize = 1 << 14

// Hello is what a client hello says of the server.
type Hello struct {
	Name string // as sent; empty if not known. Not checked: it may be any 1 to 65,535 bytes
	// Outer tells that the hello has, or while it is not complete may have, an encrypted inner one: Name is then that of
	// whoever decrypts it, not of the server. Browsers send the extension at random too, to hide who uses it.
	Outer bool
}

// Extensions and the one kind of name that RFC 6066, section 3, and RFC 9849 define.
const (
	typeClientHello   = 1
	extServerName     = 0
	extEncryptedHello = 0xfe0d
	nameTypeHost      = 0
)

// Parse reads a handshake message that begins with its type and length. While only a beginning is there, it returns
// ErrMore; bytes after the message are ignored.
func Parse(message []byte) (Hello, error) {
	if len(message) > 0 && message[0] != typeClientHello {
		return Hello{}, fmt.Errorf("a handshake message of type %d: %w", message[0], ErrNone)
	}
	if len(message) < 4 {
		return Hello{}, ErrMore
	}
	size := int(message[1])<<16 | int(message[2])<<8 | int(message[3])
	if size > MaxSize {
		return Hello{}, fmt.Errorf("a client hello of %d bytes: %w", size, ErrNone)
	}
	message = message[4:]
	complete := len(message) >= size
	h, err := body(cursor{rest: message[:min(size, len(message))]})
	switch {
	case err != nil && !errors.Is(err, errShort):
		return Hello{}, err
	case !complete:
		h.Outer = true
		return h, ErrMore
	case err != nil:
		return Hello{}, fmt.Errorf("a client hello whose lengths do not agree: %w", ErrNone)
	case h.Name == "":
		return Hello{}, ErrNone
	}
	return h, nil
}

func body(c cursor) (Hello, error) {
	c.skip(2 + 32) // version, random
	c.vector8()    // session
	c.vector16()   // cipher suites
	c.vector8()    // compression
	if c.err == nil && len(c.rest) == 0 {
		return Hello{}, nil // extensions may be left out
	}
	all := c.uint16()
	var h Hello
	for c.err == nil && all > 0 {
		before := len(c.rest)
		kind := c.uint16()
		data := c.vector16()
		if c.err != nil {
			return h, c.err
		}
		switch kind {
		case extServerName:
			name, err := serverName(cursor{rest: data})
			if err != nil || h.Name != "" {
				return Hello{}, fmt.Errorf("a malformed server name extension: %w", ErrNone)
			}
			h.Name = name
		case extEncryptedHello:
			h.Outer = true
		}
		if all -= before - len(c.rest); all < 0 {
			return Hello{}, fmt.Errorf("extensions whose lengths do not agree: %w", ErrNone)
		}
	}
	return h, c.err
}

// serverName gives the first host name of the list; no other kind of name was ever defined.
func serverName(c cursor) (string, error) {
	list := cursor{rest: c.vector16(), err: c.err}
	for list.err == nil {
		kind := list.uint8()
		name := list.vector16()
		if list.err == nil && kind == nameTypeHost && len(name) > 0 {
			return string(name), nil
		}
	}
	return "", list.err
}

// errShort tells that the bytes end before what they announce.
var errShort = errors.New("bytes end too early")

// cursor reads from the front of rest. After the first error it gives zeros.
type cursor struct {
	rest []byte
	err  error
}

func (c *cursor) skip(n int) []byte {
	if c.err != nil || n > len(c.rest) {
		c.err, c.rest = errShort, nil
		return nil
	}
	out := c.rest[:n]
	c.rest = c.rest[n:]
	return out
}

func (c *cursor) uint8() int {
	if b := c.skip(1); b != nil {
		return int(b[0])
	}
	return 0
}

func (c *cursor) uint16() int {
	if b := c.skip(2); b != nil {
		return int(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (c *cursor) vector8() []byte  { return c.skip(c.uint8()) }
func (c *cursor) vector16() []byte { return c.skip(c.uint16()) }
