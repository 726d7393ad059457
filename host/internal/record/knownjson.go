package record

import "container/list"

// The keys that known.json has beside those of record.json.
const (
	keyOnce   = "Seen Once"  // account → what it has learned and one window saw, the oldest first
	keyAgain  = "Seen Again" // account → what several windows saw, the one that was not seen for longest first
	keyCopies = "Copies"     // hashes that record.json may have without another hand
)

// state is known.json: the document, the order of what was learned, and the hashes of the copies in the user's directory.
func (k *known) state(copies []string) map[string]any {
	doc := k.document()
	doc[keyOnce], doc[keyAgain] = learned(k.once), learned(k.again)
	doc[keyCopies] = texts(copies)
	return doc
}

func learned(from map[account]*list.List) map[string]any {
	to := make(map[string]any, len(from))
	for payer, entries := range from {
		facts := make([]any, 0, entries.Len())
		for at := entries.Front(); at != nil; at = at.Next() {
			e := at.Value.(*entry)
			facts = append(facts, texts([]string{e.key, e.path, e.text}))
		}
		to[payer.String()] = facts
	}
	return to
}

// parseState reads known.json. What it says of no account is what 1.0.3 knew.
func parseState(data []byte, limit int) (k *known, copies []string, err error) {
	doc, err := decodeObject(data)
	if err != nil {
		return nil, nil, err
	}
	if k, err = knownOf(doc, limit); err != nil {
		return nil, nil, err
	}
	k.readLearned(doc, keyOnce, false)
	k.readLearned(doc, keyAgain, true)
	k.window, k.moved = k.window+1, false // it was seen in earlier ones
	items, _ := doc[keyCopies].([]any)
	copies, err = readTexts(keyCopies, items)
	return k, copies, err
}

// readLearned leaves out what is not as state wrote it: who pays for it is found anew.
func (k *known) readLearned(doc map[string]any, key string, again bool) {
	accounts, _ := doc[key].(map[string]any)
	for name, v := range accounts {
		payer, ok := parseAccount(name)
		items, _ := v.([]any)
		for _, item := range items {
			parts, _ := item.([]any)
			words, err := readTexts(key, parts)
			if !ok || err != nil || len(words) != 3 {
				continue
			}
			f := fact{words[0], words[1], words[2]}
			if e, ok := k.facts[f]; ok && e == nil && k.used[payer]+f.cost() <= k.room(payer) {
				k.learn(payer, f, again)
			}
		}
	}
}
