package hello

import (
	"encoding/binary"
	"encoding/hex"
	"os"
	"strings"
	"testing"
)

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	raw, err := hex.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func readHex(t testing.TB, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return unhex(t, string(text))
}

// seal protects a packet as a client does (RFC 9001, section 5.3 and 5.4): the inverse of keys.open.
func seal(t testing.TB, k *keys, header []byte, number uint32, frames []byte) []byte {
	t.Helper()
	size := int(header[0]&3) + 1
	nonce := k.iv
	for i, b := range binary.BigEndian.AppendUint32(nil, number) {
		nonce[8+i] ^= b
	}
	packet := k.aead.Seal(append([]byte(nil), header...), nonce[:], frames, header)
	at := len(header) - size
	var mask [16]byte
	k.header.Encrypt(mask[:], packet[at+4:at+20])
	packet[0] ^= mask[0] & 0x0f
	for i := range size {
		packet[at+i] ^= mask[1+i]
	}
	return packet
}

func appendVarint(b []byte, v uint64) []byte {
	switch {
	case v < 1<<6:
		return append(b, byte(v))
	case v < 1<<14:
		return binary.BigEndian.AppendUint16(b, uint16(v)|1<<14)
	case v < 1<<30:
		return binary.BigEndian.AppendUint32(b, uint32(v)|2<<30)
	}
	return binary.BigEndian.AppendUint64(b, v|3<<62)
}

// client makes the initial packets of a QUIC client.
type client struct {
	t       testing.TB
	version version
	keys    *keys
	number  uint32
}

func newClient(t testing.TB, number uint32, id string) *client {
	t.Helper()
	v, ok := versionOf(number)
	if !ok {
		t.Fatalf("version %#x is not known", number)
	}
	k, err := clientKeys(v, []byte(id))
	if err != nil {
		t.Fatal(err)
	}
	return &client{t: t, version: v, keys: k}
}

// initial makes a packet to the server that calls itself id.
func (c *client) initial(id string, frames []byte) []byte {
	header := []byte{0xc0 | c.version.initial<<4 | 1} // packet numbers of two bytes
	header = binary.BigEndian.AppendUint32(header, c.version.number)
	header = append(append(header, byte(len(id))), id...)
	header = append(header, 4, 's', 'e', 'l', 'f')
	header = append(header, 3, 't', 'o', 'k')
	header = appendVarint(header, uint64(2+len(frames)+16))
	header = binary.BigEndian.AppendUint16(header, uint16(c.number))
	c.number++
	return seal(c.t, c.keys, header, c.number-1, frames)
}

func crypto(offset int, data []byte) []byte {
	frame := appendVarint([]byte{frameCrypto}, uint64(offset))
	frame = appendVarint(frame, uint64(len(data)))
	return append(frame, data...)
}

func padding(n int) []byte { return make([]byte, n) }

func join(parts ...[]byte) []byte {
	var out []byte
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// extension and message build client hellos that crypto/tls would not.
func extension(kind uint16, data []byte) []byte {
	out := binary.BigEndian.AppendUint16(nil, kind)
	out = binary.BigEndian.AppendUint16(out, uint16(len(data)))
	return append(out, data...)
}

func serverNameExtension(name string) []byte {
	entry := binary.BigEndian.AppendUint16([]byte{nameTypeHost}, uint16(len(name)))
	entry = append(entry, name...)
	list := binary.BigEndian.AppendUint16(nil, uint16(len(entry)))
	return extension(extServerName, append(list, entry...))
}

func message(extensions ...[]byte) []byte {
	body := append([]byte{3, 3}, make([]byte, 32)...)
	body = append(body, 0, 0, 2, 0x13, 0x01, 1, 0)
	all := join(extensions...)
	body = binary.BigEndian.AppendUint16(body, uint16(len(all)))
	body = append(body, all...)
	return append([]byte{typeClientHello, 0, byte(len(body) >> 8), byte(len(body))}, body...)
}

// records cuts a message into records of size bytes.
func records(message []byte, size int) []byte {
	var out []byte
	for len(message) > 0 {
		n := min(size, len(message))
		out = binary.BigEndian.AppendUint16(append(out, recordHandshake, 3, 1), uint16(n))
		out = append(out, message[:n]...)
		message = message[n:]
	}
	return out
}
