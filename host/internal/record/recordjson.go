package record

import (
	"fmt"
)

// The keys of record.json in 1.0.3.
const (
	keyExecutables       = "Executables"
	keyNames             = "Names"
	keyParentExecutables = "Parent Executables"
	keyParentNames       = "Parent Names"
	keyHashes            = "SHA256"
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

func lists(from sets) map[string]any {
	to := make(map[string]any, len(from))
	for key := range from {
		to[key] = texts(from.list(key))
	}
	return to
}

func texts(items []string) []any {
	out := make([]any, len(items))
	for i, item := range items {
		out[i] = item
	}
	return out
}

// parseRecord reads record.json.
func parseRecord(data []byte, limit int) (*known, error) {
	doc, err := decodeObject(data)
	if err != nil {
		return nil, err
	}
	return knownOf(doc, limit)
}

func decodeObject(data []byte) (map[string]any, error) {
	v, err := decodeJSON(data)
	if err != nil {
		return nil, err
	}
	doc, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("1:1: %w: expected an object", errJSON)
	}
	return doc, nil
}

// knownOf takes the five maps. Keys it does not know are left out; a key that is missing is empty.
func knownOf(doc map[string]any, limit int) (*known, error) {
	k := newKnown(limit)
	for key, to := range map[string]sets{
		keyExecutables: k.executables, keyNames: k.names,
		keyParentExecutables: k.parentExecutables, keyParentNames: k.parentNames,
	} {
		turns, err := readLists(doc, key, to)
		if err != nil {
			return nil, err
		}
		k.turns = max(k.turns, turns)
	}
	if err := readHashes(doc, k.hashes); err != nil {
		return nil, err
	}
	k.index()
	return k, nil
}

// index finds the facts of the five maps.
func (k *known) index() {
	for _, key := range []string{keyExecutables, keyParentExecutables} {
		executables, names := k.programs(key)
		for path, set := range executables {
			for name := range set {
				if _, ok := names[name][path]; ok {
					k.facts[fact{key, path, name}] = nil
				}
			}
		}
	}
	for path, verdicts := range k.hashes {
		for hash := range verdicts {
			k.facts[fact{keyHashes, path, hash}] = nil
		}
	}
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

// readLists gives how long the longest list is.
func readLists(doc map[string]any, key string, to sets) (turns int, err error) {
	inner, err := member(doc, key)
	if err != nil {
		return 0, err
	}
	for name, v := range inner {
		items, ok := v.([]any)
		if !ok {
			return 0, fmt.Errorf("%q: %w: expected lists", key, errJSON)
		}
		list, err := readTexts(key, items)
		if err != nil {
			return 0, err
		}
		to[name] = make(map[string]int, len(list))
		for turn, item := range list {
			to.add(name, item, turn)
		}
		turns = max(turns, len(list))
	}
	return turns, nil
}

func readTexts(key string, items []any) ([]string, error) {
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
