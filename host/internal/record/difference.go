package record

import (
	"strconv"
	"strings"
)

// difference says in words how now differs from before: "+1 executable, -2 names", or "" where nothing did that counts.
func difference(before, now *known) string {
	var words []string
	add := func(noun string, plus, minus int) {
		for _, part := range []struct {
			sign  string
			count int
		}{{"+", plus}, {"-", minus}} {
			switch {
			case part.count == 1:
				words = append(words, part.sign+"1 "+noun)
			case part.count > 1:
				words = append(words, part.sign+strconv.Itoa(part.count)+" "+plural(noun))
			}
		}
	}
	add("executable", extra(now.executables, before.executables), extra(before.executables, now.executables))
	add("name", extra(now.names, before.names), extra(before.names, now.names))
	add("parent executable", extra(now.parentExecutables, before.parentExecutables), extra(before.parentExecutables, now.parentExecutables))
	add("parent name", extra(now.parentNames, before.parentNames), extra(before.parentNames, now.parentNames))
	add("hash", extraHashes(now.hashes, before.hashes), extraHashes(before.hashes, now.hashes))
	return strings.Join(words, ", ")
}

func plural(noun string) string {
	if noun == "hash" {
		return "hashes"
	}
	return noun + "s"
}

// extra counts the keys that a has beyond b.
func extra(a, b sets) int {
	n := 0
	for key := range a {
		if _, ok := b[key]; !ok {
			n++
		}
	}
	return n
}

// extraHashes counts the hashes that a has beyond b; one whose verdict differs counts on both sides.
func extraHashes(a, b map[string]map[string]string) int {
	n := 0
	for path, verdicts := range a {
		for hash, verdict := range verdicts {
			if other, ok := b[path][hash]; !ok || other != verdict {
				n++
			}
		}
	}
	return n
}
