package helper

// ticket is a place. Its helper's end gives it back.
type ticket struct {
	slots     *slots
	uid       uint32
	abandoned bool
	ended     bool
}

// abandon says that the helper cannot be killed: others may have its place. It may have ended just now.
func (t *ticket) abandon() {
	s := t.slots
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.ended || t.abandoned {
		return
	}
	t.abandoned = true
	u := s.userLocked(t.uid)
	s.running--
	u.running--
	s.stuck++
	u.stuck++
	s.stats.GivenUp++
	s.dispatchLocked()
}

// end says that the helper has ended, or was never started.
func (t *ticket) end() {
	s := t.slots
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.ended {
		return
	}
	t.ended = true
	u := s.userLocked(t.uid)
	if t.abandoned {
		s.stuck--
		u.stuck--
		s.stats.Recovered++
	} else {
		s.running--
		u.running--
	}
	s.dispatchLocked()
	s.forgetLocked(t.uid)
}
