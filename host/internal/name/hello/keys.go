package hello

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// version is what differs between the two versions of QUIC for a client's first packets.
type version struct {
	number  uint32
	initial byte // packet type, two bits
	retry   byte
	salt    string
	label   string // before " key", " iv", " hp"
}

// versionOf gives the version that a packet claims, if it is known: RFC 9001, section 5.2, and RFC 9369, section 3.
func versionOf(number uint32) (version, bool) {
	switch number {
	case 1:
		return version{
			number: 1, initial: 0, retry: 3, label: "quic",
			salt: "\x38\x76\x2c\xf7\xf5\x59\x34\xb3\x4d\x17\x9a\xe6\xa4\xc8\x0c\xad\xcc\xbb\x7f\x0a",
		}, true
	case 0x6b3343cf:
		return version{
			number: number, initial: 1, retry: 0, label: "quicv2",
			salt: "\x0d\xed\xe3\xde\xf7\x00\xa6\xdb\x81\x93\x81\xbe\x6e\x26\x9d\xcb\xf9\xbd\x2e\xd9",
		}, true
	}
	return version{}, false
}

// keys open the packets that a client protects with its initial secret.
type keys struct {
	block  cipher.Block
	aead   cipher.AEAD
	header cipher.Block
	iv     [12]byte
}

// clientKeys derives them from the destination connection id of the client's first packet.
func clientKeys(v version, id []byte) (*keys, error) {
	initial, err := hkdf.Extract(sha256.New, id, []byte(v.salt))
	if err != nil {
		return nil, fmt.Errorf("derive QUIC keys: %w", err)
	}
	secret, err := expand(initial, "client in", sha256.Size)
	if err != nil {
		return nil, err
	}
	key, err := expand(secret, v.label+" key", 16)
	if err != nil {
		return nil, err
	}
	iv, err := expand(secret, v.label+" iv", 12)
	if err != nil {
		return nil, err
	}
	hp, err := expand(secret, v.label+" hp", 16)
	if err != nil {
		return nil, err
	}
	return newKeys(key, iv, hp)
}

func newKeys(key, iv, hp []byte) (*keys, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("derive QUIC keys: %w", err)
	}
	k := &keys{block: block, iv: [12]byte(iv)}
	if k.aead, err = cipher.NewGCM(block); err != nil {
		return nil, fmt.Errorf("derive QUIC keys: %w", err)
	}
	if k.header, err = aes.NewCipher(hp); err != nil {
		return nil, fmt.Errorf("derive QUIC keys: %w", err)
	}
	return k, nil
}

// expand is HKDF-Expand-Label of TLS 1.3 with an empty context (RFC 8446, section 7.1).
func expand(secret []byte, label string, size int) ([]byte, error) {
	info := binary.BigEndian.AppendUint16(nil, uint16(size))
	info = append(info, byte(len("tls13 ")+len(label)))
	info = append(info, "tls13 "+label...)
	info = append(info, 0)
	out, err := hkdf.Expand(sha256.New, secret, string(info), size)
	if err != nil {
		return nil, fmt.Errorf("derive QUIC keys: %w", err)
	}
	return out, nil
}

// open gives the frames of an initial packet, and leaves the packet as it was. Of one that is cut off it gives the frames
// that are there, unproved: the proof is at the end. That costs nothing, since everyone knows the keys.
func (k *keys) open(p packet) ([]byte, error) {
	const longest, sample = 4, aes.BlockSize
	if len(p.bytes) < p.number+longest+sample {
		return nil, fmt.Errorf("a packet too short to be protected: %w", ErrNone)
	}
	var mask [aes.BlockSize]byte
	k.header.Encrypt(mask[:], p.bytes[p.number+longest:p.number+longest+sample])
	first := p.bytes[0] ^ mask[0]&0x0f
	size := int(first&3) + 1
	header := append(make([]byte, 0, 128), p.bytes[:p.number+size]...)
	header[0] = first
	nonce := k.iv
	for i := range size {
		header[p.number+i] ^= mask[1+i]
		// The number is cut to its last bytes, but a client's first packets count from zero.
		nonce[len(nonce)-size+i] ^= header[p.number+i]
	}
	sealed := p.bytes[p.number+size:]
	if p.missing > 0 {
		proof := max(k.aead.Overhead()-int(min(p.missing, 1<<16)), 0) // what is there of it
		return k.decrypt(nonce, sealed[:max(len(sealed)-proof, 0)]), nil
	}
	frames, err := k.aead.Open(nil, nonce[:], sealed, header)
	if err != nil {
		return nil, fmt.Errorf("a QUIC packet that does not open (%w): %w", err, ErrNone)
	}
	return frames, nil
}

// decrypt does what GCM does beside proving: counter mode, beginning at 2 (NIST SP 800-38D, section 7.2).
func (k *keys) decrypt(nonce [12]byte, sealed []byte) []byte {
	counter := append(nonce[:], 0, 0, 0, 2)
	out := make([]byte, len(sealed))
	cipher.NewCTR(k.block, counter).XORKeyStream(out, sealed)
	return out
}
