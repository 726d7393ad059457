package answer

import (
	"encoding/binary"
	"errors"

	"github.com/picosnitch/picosnitch/host/internal/name/pieces"
)

// maxStream bounds what is kept of a TCP connection to a DNS server: one message of the longest kind and its length.
const maxStream = 2 + 1<<16

// Stream reads the DNS messages of one direction of a TCP connection, where each has its length before it. A message may
// come in several pieces and a piece may hold several messages. It is not safe for use by several goroutines.
type Stream struct{ buffer *pieces.Buffer }

// NewStream gives a Stream for a connection that is seen from its first byte on.
func NewStream() *Stream { return &Stream{pieces.New(maxStream)} }

// Size is the memory held, in bytes.
func (s *Stream) Size() int { return s.buffer.Size() }

// Add takes a piece and calls each for every sound answer that it completes. Of a message that is known to have a hole
// that nobody will fill, as when only the beginning of a long read was handed over, what is there is tried. The error joins
// those of single messages, and those are skipped; after [pieces.ErrFull] the stream cannot be read any further.
func (s *Stream) Add(offset uint64, piece []byte, each func(Answer)) error {
	if err := s.buffer.Add(offset, piece); err != nil {
		return err
	}
	var errs []error
	for {
		have := s.buffer.Bytes()
		if len(have) < 2 {
			return errors.Join(errs...)
		}
		end := 2 + int(binary.BigEndian.Uint16(have))
		if len(have) < end && !s.beyond(end) {
			return errors.Join(errs...)
		}
		if a, err := Parse(have[2:min(end, len(have))]); err == nil {
			each(a)
		} else if !errors.Is(err, ErrNone) && len(errs) < 8 {
			errs = append(errs, err)
		}
		s.buffer.Skip(uint64(end))
	}
}

// beyond tells that the stream has gone on behind the message of that length, so that its hole stays.
func (s *Stream) beyond(end int) bool {
	next := s.buffer.Next()
	return next >= s.buffer.Base()+uint64(end) && next > s.buffer.Base()+uint64(len(s.buffer.Bytes()))
}
