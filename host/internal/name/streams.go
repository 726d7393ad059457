package name

import (
	"errors"
	"net/netip"
	"slices"
	"sync"

	"github.com/picosnitch/picosnitch/host/internal/name/answer"
	"github.com/picosnitch/picosnitch/host/internal/name/hello"
	"github.com/picosnitch/picosnitch/host/internal/name/pieces"
)

// streams puts together what comes in several payloads.
type streams struct {
	mu      sync.Mutex
	options Options
	open    *shelf[streamKey, *stream]
	count   Counters
}

type streamKey struct {
	socket uint64
	remote netip.AddrPort
	kind   kind
}

type kind uint8

const (
	kindQuestions kind = iota + 1 // UDP, sent to port 53
	kindAnswers                   // TCP, received from port 53
	kindTLS                       // TCP, sent
	kindQUIC                      // UDP, sent
)

// stream is one of its fields, by its kind.
type stream struct {
	seen    int64 // boot ns of the last payload
	asked   []uint16
	answers *answer.Stream
	tls     *pieces.Buffer
	quic    *hello.Connection
}

// maxAsked questions of one socket to one server may wait for an answer.
const maxAsked = 64

func newStreams(o Options) *streams {
	return &streams{options: o, open: newShelf[streamKey, *stream](o.Streams, o.StreamBytes)}
}

// findLocked gives the stream of a payload, or nil.
func (s *streams) findLocked(p *Payload, k kind) *item[streamKey, *stream] {
	it := s.open.get(streamKey{p.Socket, p.Remote, k})
	if it != nil {
		it.value.seen = p.Time
	}
	return it
}

// beginLocked makes the stream of a payload. Resize is to follow.
func (s *streams) beginLocked(p *Payload, k kind) *item[streamKey, *stream] {
	return s.open.put(streamKey{p.Socket, p.Remote, k}, Owner{p.Process, p.UID, p.NetNS}, &stream{seen: p.Time})
}

// expireLocked gives up those that nothing more came for. The list of all is in the order of use.
func (s *streams) expireLocked(now int64) {
	for it := s.open.all.first; it != nil && it.value.seen < now-int64(s.options.StreamAge); it = s.open.all.first {
		s.open.drop(it)
	}
}

// asksLocked notes a question.
func (s *streams) asksLocked(p *Payload) {
	if !s.options.Asked || p.Socket == 0 || len(p.Data) < 12 || p.Data[2]&0x80 != 0 {
		return
	}
	it := s.findLocked(p, kindQuestions)
	if it == nil {
		it = s.beginLocked(p, kindQuestions)
	}
	asked := it.value.asked
	if len(asked) == maxAsked {
		asked = asked[:copy(asked, asked[1:])]
	}
	it.value.asked = append(asked, questionID(p))
	s.open.resize(it, 2*cap(it.value.asked))
}

// wasAskedLocked tells whether an answer has a question, which then is done.
func (s *streams) wasAskedLocked(p *Payload) bool {
	if !s.options.Asked {
		return true
	}
	if it := s.findLocked(p, kindQuestions); it != nil && len(p.Data) > 1 {
		if i := slices.Index(it.value.asked, questionID(p)); i >= 0 {
			it.value.asked = slices.Delete(it.value.asked, i, i+1)
			return true
		}
	}
	s.count.Unasked++
	return false
}

func questionID(p *Payload) uint16 { return uint16(p.Data[0])<<8 | uint16(p.Data[1]) }

// datagramLocked reads an answer that came over UDP.
func (s *streams) datagramLocked(p *Payload) []answer.Answer {
	a, err := answer.Parse(p.Data)
	switch {
	case errors.Is(err, answer.ErrNone):
		return nil
	case err != nil:
		s.count.Malformed++
		return nil
	case !s.wasAskedLocked(p):
		return nil
	}
	return []answer.Answer{a}
}

// answersLocked reads answers that came over TCP.
func (s *streams) answersLocked(p *Payload) (out []answer.Answer) {
	it := s.findLocked(p, kindAnswers)
	if it == nil {
		if p.Offset != 0 || p.Socket == 0 {
			return nil // from where the messages begin is not known
		}
		it = s.beginLocked(p, kindAnswers)
		it.value.answers = answer.NewStream()
	}
	err := it.value.answers.Add(p.Offset, p.Data, func(a answer.Answer) { out = append(out, a) })
	if err != nil {
		s.count.Malformed++
	}
	if errors.Is(err, pieces.ErrFull) {
		s.open.drop(it)
		return out
	}
	s.open.resize(it, it.value.answers.Size())
	return out
}

// tlsLocked reads a client hello that goes out over TCP. The result is empty while no name is known.
func (s *streams) tlsLocked(p *Payload) hello.Hello {
	if len(p.Data) == 0 {
		return hello.Hello{}
	}
	it := s.findLocked(p, kindTLS)
	if it == nil && p.Offset == 0 { // nearly every one comes whole
		h, err := hello.FromRecords(p.Data)
		if !errors.Is(err, hello.ErrMore) || p.Socket == 0 {
			return h
		}
		it = s.beginLocked(p, kindTLS)
		it.value.tls = pieces.New(hello.MaxSize * 2) // what the records' headers take included
	}
	if it == nil {
		return hello.Hello{}
	}
	if err := it.value.tls.Add(p.Offset, p.Data); err != nil {
		s.open.drop(it)
		return hello.Hello{}
	}
	h, err := hello.FromRecords(it.value.tls.Bytes())
	if !errors.Is(err, hello.ErrMore) {
		s.open.drop(it)
		return h
	}
	s.open.resize(it, it.value.tls.Size())
	return h
}

// quicLocked reads a client hello that goes out over UDP.
func (s *streams) quicLocked(p *Payload) hello.Hello {
	if len(p.Data) == 0 || p.Data[0]&0xc0 != 0xc0 {
		return hello.Hello{} // by far the most: packets of an established connection, and other protocols
	}
	it := s.findLocked(p, kindQUIC)
	c := new(hello.Connection)
	if it != nil {
		c = it.value.quic
	}
	before := c.Size()
	h, _ := c.Add(p.Data) // what is no hello has no name
	switch {
	case it != nil:
		s.open.resize(it, c.Size())
	case before != c.Size() && p.Socket != 0:
		it = s.beginLocked(p, kindQUIC)
		it.value.quic = c
		s.open.resize(it, c.Size())
	}
	return h
}

func (s *streams) counters() Counters {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.count
	c.StreamsLost = s.open.lost
	c.Streams, c.StreamBytes = s.open.all.used.items, s.open.all.used.bytes
	return c
}
