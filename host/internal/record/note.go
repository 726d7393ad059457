package record

// Note writes a line into error.log with the next Flush, as [Recorder.Error] does, but bothers nobody with a notice: for
// what a person may look up and need not act on.
func (r *Recorder) Note(text string) {
	now := r.clock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(text) > errorLength {
		text = text[:errorLength-3] + "..."
	}
	if r.limit.admit(now, text, text) {
		r.errors.add(errorLine(now, text))
	}
}
