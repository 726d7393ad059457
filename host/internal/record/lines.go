package record

import "strings"

// linesLimit bounds what waits for a directory that cannot be written.
const linesLimit = 1 << 20

// lines wait to be appended to a log.
type lines struct {
	waiting []string
	size    int
	lost    uint64 // ever
}

// add drops the line if too many wait: the oldest tell how it began.
func (l *lines) add(line string) {
	if l.size+len(line)+1 > linesLimit {
		l.lost++
		return
	}
	l.waiting = append(l.waiting, line)
	l.size += len(line) + 1
}

func (l *lines) take() []string {
	out := l.waiting
	l.waiting, l.size = nil, 0
	return out
}

// back returns lines that could not be written, before those that came meanwhile.
func (l *lines) back(failed []string) {
	newer := l.take()
	for _, line := range append(failed, newer...) {
		l.add(line)
	}
}

// joined gives whole lines for one write.
func joined(list []string) []byte {
	if len(list) == 0 {
		return nil
	}
	return []byte(strings.Join(list, "\n") + "\n")
}
