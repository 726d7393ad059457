package record

import (
	"fmt"
	"strconv"
	"strings"
)

// The keys of record.json in 1.0.3, and those that known.json has beside them.
const (
	keyExecutables       = "Executables"
	keyNames             = "Names"
	keyParentExecutables = "Parent Executables"
	keyParentNames       = "Parent Names"
	keyHashes            = "SHA256"
	keyCharged           = "Charged" // account → entries
	keyCopies            = "Copies"  // hashes that record.json may have without another hand
)

// document is record.json as 1.0.3 wrote it.
func (k *known) document() map[string]any {
	hashes := make(map[string]any, len(k.hashes))
	for path, verdicts := range k.hashes {
		inner := make(map[string]any, len(verdicts))
		for hash, verdict := range verdicts {
			inner[hash] = verdict
		}
		hashes[path] = inner
	}
	return map[string]any{
		keyExecutables:       lists(k.executables),
		keyNames:             lists(k.names),
		keyParentExecutables: lists(k.parentExecutables),
		keyParentNames:       lists(k.parentNames),
		keyHashes:            hashes,
	}
}

// state is known.json: the document, the accounts, and the hashes of the copies in the user's directory.
func (k *known) state(copies []string) map[string]any {
	doc := k.document()
	charged := make(map[string]any, len(k.charged))
	for payer, entries := range k.charged {
		charged[payer.String()] = strconv.Itoa(entries)
	}
	doc[keyCharged] = charged
	doc[keyCopies] = list(copies)
	return doc
}

func lists(from map[string][]string) map[string]any {
	to := make(map[string]any, len(from))
	for key, items := range from {
		to[key] = list(items)
	}
	return to
}

func list(items []string) []any {
	out := make([]any, len(items))
	for i, item := range items {
		out[i] = item
	}
	return out
}

// parseKnown reads record.json or known.json. Keys it does not know are left out; a key that is missing is empty.
func parseKnown(data []byte, limit int) (k *known, copies []string, err error) {
	v, err := decodeJSON(data)
	if err != nil {
		return nil, nil, err
	}
	doc, ok := v.(map[string]any)
	if !ok {
		return nil, nil, fmt.Errorf("1:1: %w: expected an object", errJSON)
	}
	k = newKnown(limit)
	for key, to := range map[string]map[string][]string{
		keyExecutables: k.executables, keyNames: k.names,
		keyParentExecutables: k.parentExecutables, keyParentNames: k.parentNames,
	} {
		if err := readLists(doc, key, to); err != nil {
			return nil, nil, err
		}
	}
	if err := readHashes(doc, k.hashes); err != nil {
		return nil, nil, err
	}
	k.readCharged(doc)
	items, _ := doc[keyCopies].([]any)
	copies, err = texts(keyCopies, items)
	return k, copies, err
}

func member(doc map[string]any, key string) (map[string]any, error) {
	v, ok := doc[key]
	if !ok {
		return nil, nil
	}
	inner, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%q: %w: expected an object", key, errJSON)
	}
	return inner, nil
}

func readLists(doc map[string]any, key string, to map[string][]string) error {
	inner, err := member(doc, key)
	if err != nil {
		return err
	}
	for name, v := range inner {
		items, ok := v.([]any)
		if !ok {
			return fmt.Errorf("%q: %w: expected lists", key, errJSON)
		}
		if to[name], err = texts(key, items); err != nil {
			return err
		}
	}
	return nil
}

func texts(key string, items []any) ([]string, error) {
	out := make([]string, 0, len(items))
	for _, item := range items {
		text, ok := item.(string)
		if !ok {
			return nil, fmt.Errorf("%q: %w: expected lists of strings", key, errJSON)
		}
		out = append(out, text)
	}
	return out, nil
}

// readHashes takes a verdict that is no string as none: 1.0.3 has files with null there.
func readHashes(doc map[string]any, to map[string]map[string]string) error {
	inner, err := member(doc, keyHashes)
	if err != nil {
		return err
	}
	for path, v := range inner {
		verdicts, ok := v.(map[string]any)
		if !ok {
			return fmt.Errorf("%q: %w: expected objects", keyHashes, errJSON)
		}
		to[path] = make(map[string]string, len(verdicts))
		for hash, verdict := range verdicts {
			to[path][hash], _ = verdict.(string)
		}
	}
	return nil
}

func (k *known) readCharged(doc map[string]any) {
	charged, _ := doc[keyCharged].(map[string]any)
	for key, v := range charged {
		text, _ := v.(string)
		entries, err := strconv.Atoi(text)
		if payer, ok := parseAccount(key); ok && err == nil {
			k.charged[payer] = entries
			k.total += entries
		}
	}
}

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
func extra(a, b map[string][]string) int {
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
