package hello

import (
	"bytes"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"testing"
)

// The client hello of RFC 9001, appendix A.2, in its CRYPTO frame. RFC 9369, appendix A.2, has the same.
const rfcFrames = `
	060040f1010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e868
	04fe3a47f06a2b69484c00000413011302010000c000000010000e00000b6578
	616d706c652e636f6dff01000100000a00080006001d00170018001000070005
	04616c706e000500050100000000003300260024001d00209370b2c9caa47fba
	baf4559fedba753de171fa71f50f1ce15d43e994ec74d748002b000302030400
	0d0010000e0403050306030203080408050806002d00020101001c0002400100
	3900320408ffffffffffffffff05048000ffff07048000ffff08011001048000
	75300901100f088394c8f03e51570806048000ffff`

func TestKeysOfTheRFCs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name                string
		version             uint32
		key, iv, hp         string
		header, wantBegin   string
		wantWhole, wantName string
	}{
		{
			"RFC 9001, appendix A", 1,
			"1f369613dd76d5467730efcbe3b1a22d", "fa044b2f42a3fd3b46fb255c", "9f50449e04a0e810283a1e9933adedd2",
			"c300000001088394c8f03e5157080000449e00000002",
			"c000000001088394c8f03e5157080000449e7b9aec34d1b1c98dd7689fb8ec11",
			"testdata/rfc9001-a2-client-initial.hex", "example.com",
		},
		{
			"RFC 9369, appendix A", 0x6b3343cf,
			"8b1a0bc121284290a29e0971b5cd045d", "91f73e2351d8fa91660e909f", "45b95e15235d6f45a6b19cbcb0294ba9",
			"d36b3343cf088394c8f03e5157080000449e00000002",
			"d76b3343cf088394c8f03e5157080000449ea0c95e82ffe67b6abcdb4298b485" +
				"dd04de806071bf03dceebfa162e75d6c96058bdbfb127cdfcbf903388e99ad04",
			"", "example.com",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			v, _ := versionOf(c.version)
			got, err := clientKeys(v, unhex(t, "8394c8f03e515708"))
			if err != nil {
				t.Fatal(err)
			}
			want, err := newKeys(unhex(t, c.key), unhex(t, c.iv), unhex(t, c.hp))
			if err != nil {
				t.Fatal(err)
			}
			frames := join(unhex(t, rfcFrames), padding(917))
			packet := seal(t, got, unhex(t, c.header), 2, frames)
			if !bytes.Equal(packet, seal(t, want, unhex(t, c.header), 2, frames)) {
				t.Error("other keys than those of the RFC")
			}
			if begin := unhex(t, c.wantBegin); !bytes.Equal(packet[:len(begin)], begin) {
				t.Errorf("packet begins\n%x, want\n%x", packet[:len(begin)], begin)
			}
			if c.wantWhole != "" {
				packet = readHex(t, c.wantWhole)
			}
			var conn Connection
			if h, err := conn.Add(packet); err != nil || h != (Hello{Name: c.wantName}) {
				t.Errorf("%+v, %v", h, err)
			}
		})
	}
}

func TestHelloInManyFramesPacketsAndDatagrams(t *testing.T) {
	t.Parallel()
	hello := clientHello(t, &tls.Config{ServerName: "quic.example.org", MinVersion: tls.VersionTLS13})[recordHeader:]
	random := rand.New(rand.NewPCG(3, 4))
	for _, number := range []uint32{1, 0x6b3343cf} {
		for range 50 {
			c := newClient(t, number, "original")
			var packets [][]byte
			var frames []byte
			for _, at := range random.Perm((len(hello) + 99) / 100) {
				frames = join(frames, []byte{framePing}, padding(random.IntN(4)),
					crypto(at*100, hello[at*100:min(at*100+100, len(hello))]))
				if random.IntN(3) == 0 {
					packets = append(packets, c.initial("original", join(frames, padding(30))))
					frames = nil
				}
			}
			packets = append(packets, c.initial("original", join(frames, padding(30))))
			var conn Connection
			var got Hello
			err := ErrMore
			for len(packets) > 0 { // one or two packets a datagram
				n := min(1+random.IntN(2), len(packets))
				got, err = conn.Add(join(packets[:n]...))
				packets = packets[n:]
				if len(packets) > 0 && err != nil && !errors.Is(err, ErrMore) {
					t.Fatal(err)
				}
			}
			if err != nil || got != (Hello{Name: "quic.example.org"}) {
				t.Fatalf("version %#x: %+v, %v", number, got, err)
			}
		}
	}
}

func TestConnectionGoesOnUnderAnotherID(t *testing.T) {
	t.Parallel()
	hello := message(serverNameExtension("one.example.org"))
	half := len(hello) / 2
	c := newClient(t, 1, "original")
	var conn Connection
	if _, err := conn.Add(c.initial("original", join(crypto(0, hello[:half]), padding(30)))); !errors.Is(err, ErrMore) {
		t.Fatalf("the first half: %v", err)
	}
	// Once the server has answered, the client uses its id; the keys stay (RFC 9001, section 5.2).
	ack := []byte{frameAck, 0, 0, 1, 0, 0, 0}
	h, err := conn.Add(c.initial("server's", join(ack, crypto(half, hello[half:]), padding(30))))
	if err != nil || h.Name != "one.example.org" {
		t.Fatalf("the second half: %+v, %v", h, err)
	}
	if h, err = conn.Add(c.initial("server's", join(ack, padding(30)))); err != nil || h.Name != "one.example.org" {
		t.Errorf("afterwards: %+v, %v", h, err)
	}
	// A Retry makes the client begin anew with keys of the id that it was given; so does a further connection.
	retried := newClient(t, 1, "retry id")
	other := message(serverNameExtension("two.example.org"))
	if h, err = conn.Add(retried.initial("retry id", join(crypto(0, other), padding(30)))); err != nil || h.Name != "two.example.org" {
		t.Errorf("another connection: %+v, %v", h, err)
	}
	// Bytes that cannot be opened do not disturb it.
	broken := retried.initial("retry id", join(crypto(0, other), padding(30)))
	broken[len(broken)-1] ^= 1
	if _, err = conn.Add(broken); err == nil {
		t.Error("a forged packet is believed")
	}
	if h, err = conn.Add(retried.initial("retry id", padding(30))); err != nil || h.Name != "two.example.org" {
		t.Errorf("after a forged packet: %+v, %v", h, err)
	}
}

// Several datagrams may be sent by one call, of which only the beginning is handed over.
func TestHelloInAPacketThatIsCutOff(t *testing.T) {
	t.Parallel()
	hello := message(serverNameExtension("cut.example.org"), extension(51, make([]byte, 1300)))
	c := newClient(t, 1, "original")
	flight := join(c.initial("original", crypto(0, hello[:1150])), c.initial("original", join(crypto(1150, hello[1150:]), padding(900))))
	for n := 1200; n < len(flight); n++ {
		var conn Connection
		h, err := conn.Add(flight[:n])
		if n > 1600 && (err != nil || h != (Hello{Name: "cut.example.org"})) {
			t.Fatalf("cut to %d of %d bytes: %+v, %v", n, len(flight), h, err)
		}
		if n < 1400 && (!errors.Is(err, ErrMore) || h != (Hello{Name: "cut.example.org", Outer: true})) {
			t.Fatalf("cut to %d of %d bytes: %+v, %v", n, len(flight), h, err)
		}
	}
}

func TestWhatIsNoFirstPacketOfAClient(t *testing.T) {
	t.Parallel()
	c := newClient(t, 1, "12345678")
	good := c.initial("12345678", join(crypto(0, message(serverNameExtension("example.org"))), padding(30)))
	unknown := bytes.Clone(good)
	unknown[4] = 9
	long := bytes.Clone(good)
	long[5] = 0xff
	for name, datagram := range map[string][]byte{
		"nothing":           nil,
		"a short header":    {0x40, 1, 2, 3, 4, 5, 6, 7, 8},
		"DNS":               []byte("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01"),
		"an unknown kind":   unknown,
		"an id too long":    long,
		"cut in its header": good[:20],
		"cut before frames": good[:30],
		"a stream frame":    c.initial("12345678", join([]byte{0x08, 0, 1}, padding(40))),
		"a close":           c.initial("12345678", join([]byte{frameClose, 0, 0, 0}, padding(40))),
		"a huge offset":     c.initial("12345678", join([]byte{frameCrypto, 0xff, 255, 255, 255, 255, 255, 255, 255, 1, 1}, padding(40))),
		"a huge length":     c.initial("12345678", join([]byte{frameCrypto, 0, 0xff, 255, 255, 255, 255, 255, 255, 255}, padding(40))),
		"a huge count":      c.initial("12345678", join([]byte{frameAck, 0, 0, 0xff, 255, 255, 255, 255, 255, 255, 255}, padding(40))),
		"beyond the limit":  c.initial("12345678", join(crypto(MaxSize, []byte("x")), padding(40))),
		"a server's packet": {0xc0, 0, 0, 0, 1, 0, 0, 0, 0},
	} {
		var conn Connection
		if h, err := conn.Add(datagram); !errors.Is(err, ErrNone) || h != (Hello{}) {
			t.Errorf("%s: %+v, %v", name, h, err)
		}
		if size := conn.Size(); size > 2*keysSize {
			t.Errorf("%s holds %d bytes", name, size)
		}
	}
}

func FuzzQUIC(f *testing.F) {
	hello := message(serverNameExtension("example.org"))
	c := newClient(f, 1, "fuzz")
	f.Add(join(c.initial("fuzz", join(crypto(40, hello[40:]), padding(20))), c.initial("fuzz", crypto(0, hello))), []byte{})
	f.Add(readHex(f, "testdata/rfc9001-a2-client-initial.hex"), unhex(f, rfcFrames))
	f.Add([]byte{0xc0}, join([]byte{frameAck, 0, 0, 1, 0, 0, 0}, crypto(3, hello[3:]), crypto(0, hello[:3])))
	f.Fuzz(func(t *testing.T, datagram, frames []byte) {
		var conn Connection
		for range 2 {
			if h, err := conn.Add(datagram); err == nil && h.Name == "" {
				t.Error("no error and no name")
			}
		}
		// Nobody guesses a key, so frames are fuzzed inside a packet that opens.
		sealed := newClient(t, 1, "fuzz").initial("fuzz", join(frames, padding(20)))
		if h, err := conn.Add(sealed); err == nil && h.Name == "" {
			t.Error("no error and no name")
		}
		cut := sealed[:max(len(sealed)-1-len(datagram)%64, 0)] // not proved, so that anything may come out
		if h, err := conn.Add(cut); err == nil && h.Name == "" {
			t.Error("no error and no name")
		}
		if size := conn.Size(); size > keysSize+2*MaxSize+64*64 {
			t.Errorf("holds %d bytes", size)
		}
	})
}
