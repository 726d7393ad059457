package record

// makeRoom forgets of the account's own what it must for a fact, and tells whether there is room then. What that fact is
// about stays.
func (k *known) makeRoom(payer account, f fact) bool {
	cost := f.cost()
	if cost > k.room(payer) {
		return false
	}
	for k.used[payer]+cost > k.room(payer) {
		old := k.oldest(payer, f.path)
		if old == nil {
			return false
		}
		k.forget(old.fact)
	}
	return true
}

// oldest is what the account forgets next, or nil if nothing is left but the program at path. The last hash of a program
// that was seen again stays with it.
func (k *known) oldest(payer account, path string) *entry {
	for e := range k.inOrder(payer) {
		switch {
		case !e.again && k.isLastHash(e.fact) && k.seenAgain(e.path):
			k.promote(e)
		case e.path != path || !k.isLastHash(e.fact) && !k.isLastName(e.fact):
			return e
		}
	}
	return nil
}

// forget leaves no hash without its program, and no program without its last hash: the next one would be no news.
func (k *known) forget(f fact) {
	if !k.isLastHash(f) && !k.isLastName(f) {
		k.drop(f)
		return
	}
	for _, key := range []string{keyExecutables, keyParentExecutables} {
		executables, _ := k.programs(key)
		for name := range executables[f.path] {
			k.drop(fact{key, f.path, name})
		}
		delete(executables, f.path) // in a file of 1.0.3 it may have no name
	}
	for hash := range k.hashes[f.path] {
		k.drop(fact{keyHashes, f.path, hash})
	}
	delete(k.hashes, f.path)
}

func (k *known) drop(f fact) {
	k.erase(f)
	k.version++
	if f.key == keyHashes {
		delete(k.hashes[f.path], f.text)
		return
	}
	executables, names := k.programs(f.key)
	executables.remove(f.path, f.text)
	names.remove(f.text, f.path)
}

// isLastHash tells whether a fact is the only hash of its path.
func (k *known) isLastHash(f fact) bool {
	if f.key != keyHashes {
		return false
	}
	for other := range k.hashes[f.path] {
		if other != f.text && isHash(other) {
			return false
		}
	}
	return true
}

// isLastName tells whether a fact is the only program of its path, of processes and parents.
func (k *known) isLastName(f fact) bool {
	return f.key != keyHashes && len(k.executables[f.path])+len(k.parentExecutables[f.path]) == 1
}

// seenAgain tells whether a program was seen in several windows.
func (k *known) seenAgain(path string) bool {
	for _, key := range []string{keyExecutables, keyParentExecutables} {
		executables, _ := k.programs(key)
		for name := range executables[path] {
			if e := k.facts[fact{key, path, name}]; e == nil || e.again {
				return true
			}
		}
	}
	return false
}
