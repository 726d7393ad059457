package record

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// user is an account of tests that are about one.
func user() account { return account{uid: 1000} }

// flood has the user run programs that nobody has seen.
func flood(k *known, from, programs int) {
	for i := range programs {
		k.program(user(), fmt.Sprintf("/tmp/go-build%d/x.test", from+i), "x.test", false)
	}
}

func hashOf(i int) string { return fmt.Sprintf("%064x", i) }

func TestNewProgramIsKeptAndTheOldestForgotten(t *testing.T) {
	t.Parallel()
	k := newKnown(80)
	flood(k, 0, 1000)
	for i, want := range map[int]bool{989: false, 990: true, 999: true} {
		if got := k.has(fmt.Sprintf("/tmp/go-build%d/x.test", i)); got != want {
			t.Errorf("program %d is known: %v, want %v", i, got, want)
		}
	}
	if k.total != 10 || k.forgotten != 990 || len(k.executables) != 10 || len(k.names["x.test"]) != 10 || len(k.hashes) != 10 {
		t.Errorf("%d entries, %d forgotten, maps of %d, %d, %d", k.total, k.forgotten, len(k.executables), len(k.names["x.test"]), len(k.hashes))
	}
	if news := k.program(user(), "/tmp/go-build0/x.test", "x.test", false); !news.exe || news.name || news.folded {
		t.Errorf("forgotten and back: %+v", news)
	}
}

func TestFloodOfProgramsThatRanOnceDisplacesNoneThatRanTwice(t *testing.T) {
	t.Parallel()
	k := newKnown(80)
	firefox := func(hash string) bool {
		program := k.program(user(), "/usr/bin/firefox", "firefox", false)
		return program == novelty{} && k.hash(user(), "/usr/bin/firefox", hash) == novelty{}
	}
	firefox(hashOf(1))
	k.window++
	firefox(hashOf(1))
	k.window++
	for i := range 50 {
		flood(k, 100*i, 100)
		k.window++
	}
	if !firefox(hashOf(1)) {
		t.Error("firefox was forgotten")
	}
}

// TestLastHashStaysWithItsProgram is about a program whose hash was seen in one window only, unlike the program.
func TestLastHashStaysWithItsProgram(t *testing.T) {
	t.Parallel()
	k := newKnown(80)
	k.program(user(), "/bin/a", "a", false)
	k.hash(user(), "/bin/a", hashOf(1))
	k.window++
	k.program(user(), "/bin/a", "a", false)
	flood(k, 0, 1000)
	if news := k.hash(user(), "/bin/a", hashOf(2)); !news.further {
		t.Errorf("a changed file is no news: %+v", news)
	}
}

// TestForgottenLastHashTakesItsProgramAlong is about a program and a hash of two accounts: if the program stayed, the hash
// of another file in its place would be no news.
func TestForgottenLastHashTakesItsProgramAlong(t *testing.T) {
	t.Parallel()
	k := newKnown(80)
	k.program(account{}, "/bin/a", "a", false)
	k.hash(user(), "/bin/a", hashOf(1))
	flood(k, 0, 10)
	if news := k.program(account{}, "/bin/a", "a", false); !news.exe {
		t.Errorf("%+v", news)
	}
}

// TestAllThatAnAccountHasCanBeForgotten is about one that has nothing but the last hash of somebody's program.
func TestAllThatAnAccountHasCanBeForgotten(t *testing.T) {
	t.Parallel()
	k := newKnown(8)
	for range 2 {
		k.program(account{}, "/bin/a", "a", false)
		k.window++
	}
	k.hash(user(), "/bin/a", hashOf(1))
	if news := k.program(user(), "/tmp/b", "b", false); news.folded {
		t.Errorf("%+v", news)
	}
}

func TestSeenTwiceInOneWindowIsSeenOnce(t *testing.T) {
	t.Parallel()
	k := newKnown(80)
	for range 2 {
		flood(k, 0, 1)
	}
	k.window++
	for range 2 {
		flood(k, 1, 1)
		k.window++
	}
	flood(k, 2, 9)
	if k.has("/tmp/go-build0/x.test") || !k.has("/tmp/go-build1/x.test") {
		t.Errorf("known: %v", k.names)
	}
}

func TestOfThoseSeenAgainTheLeastRecentlySeenIsForgotten(t *testing.T) {
	t.Parallel()
	k := newKnown(80)
	run := func(from, to int) {
		for i := from; i < to; i++ {
			k.program(user(), fmt.Sprintf("/bin/%d", i), fmt.Sprint(i), false)
		}
		k.window++
	}
	run(0, 10)
	run(0, 10)
	run(0, 5)
	run(10, 11) // displaces 5
	run(10, 11) // is seen again
	run(11, 12) // displaces 6
	for i, want := range []bool{true, true, true, true, true, false, false, true, true, true, true, true} {
		if got := k.has(fmt.Sprintf("/bin/%d", i)); got != want {
			t.Errorf("program %d is known: %v, want %v", i, got, want)
		}
	}
}

// TestHashOfANewProgramDoesNotDisplaceIt is about a share that is full of programs seen again: the new one is the only one
// that was seen once.
func TestHashOfANewProgramDoesNotDisplaceIt(t *testing.T) {
	t.Parallel()
	k := newKnown(80)
	for range 2 {
		flood(k, 0, 10)
		k.window++
	}
	k.program(user(), "/bin/new", "new", false)
	if news := k.hash(user(), "/bin/new", hashOf(1)); news.folded || !k.has("/bin/new") {
		t.Errorf("%+v, known: %v", news, k.has("/bin/new"))
	}
}

func TestRebuiltProgramKeepsItsNewestHashes(t *testing.T) {
	t.Parallel()
	k := newKnown(80)
	for i := range 1000 {
		k.program(user(), "/home/u/app", "app", false)
		if news := k.hash(user(), "/home/u/app", hashOf(i)); news.folded || news.further != (i > 0) {
			t.Fatalf("build %d: %+v", i, news)
		}
		k.window++
	}
	if _, ok := k.hashes["/home/u/app"][hashOf(999)]; !ok || len(k.hashes["/home/u/app"]) != 9 {
		t.Errorf("hashes: %v", k.hashes["/home/u/app"])
	}
}

func TestWhatCannotBeKeptForgetsNothing(t *testing.T) {
	t.Parallel()
	k := newKnown(80)
	for uid := range uint32(70) {
		k.program(account{uid: 1 + uid}, fmt.Sprint("/bin/", uid), "x", false)
	}
	if news := k.program(account{uid: 500}, "/bin/late", "late", false); !news.folded || k.forgotten != 0 {
		t.Errorf("of a user who has nothing to forget: %+v, %d forgotten", news, k.forgotten)
	}
	if news := k.hash(account{uid: 500}, "/bin/late", hashOf(1)); news != (novelty{}) {
		t.Errorf("its hash: %+v", news)
	}
	if news := k.program(account{uid: 1}, strings.Repeat("long", 10000), "x", false); !news.folded || k.forgotten != 0 {
		t.Errorf("too long for a share: %+v, %d forgotten", news, k.forgotten)
	}
	if news := k.program(account{}, "/bin/root", "root", false); news.folded {
		t.Errorf("root's reserve: %+v", news)
	}
}

func TestOrderSurvivesRestarts(t *testing.T) {
	t.Parallel()
	k := newKnown(80)
	flood(k, 0, 2)
	k.window++
	flood(k, 1, 9) // 1 is seen again
	k, _, err := parseState(encodeJSON(k.state(nil)), 80)
	if err != nil {
		t.Fatal(err)
	}
	flood(k, 2, 1) // is seen again now: an earlier host saw it first
	flood(k, 20, 8)
	for _, i := range []int{1, 2, 20, 27} {
		if !k.has(fmt.Sprintf("/tmp/go-build%d/x.test", i)) {
			t.Errorf("program %d was forgotten", i)
		}
	}
	if k.total != 10 {
		t.Errorf("%d entries", k.total)
	}
}

// TestWhatNobodyLearnedIsKeptUntilItIsSeen is about files of 1.0.3 and those of before there was an order.
func TestWhatNobodyLearnedIsKeptUntilItIsSeen(t *testing.T) {
	t.Parallel()
	old := newKnown(8000)
	flood(old, 0, 100)
	k, err := parseRecord(encodeJSON(old.document()), 80)
	if err != nil {
		t.Fatal(err)
	}
	if flood(k, 1000, 1000); k.total != 10 || len(k.executables) != 110 {
		t.Errorf("%d learned, %d known", k.total, len(k.executables))
	}
	flood(k, 0, 2) // belongs to the user from now on, as seen again
	if flood(k, 2000, 1000); k.total != 10 || len(k.executables) != 108 || !k.has("/tmp/go-build1/x.test") {
		t.Errorf("%d learned, %d known", k.total, len(k.executables))
	}
}

func TestOrderThatMakesNoSenseIsLeftOut(t *testing.T) {
	t.Parallel()
	k := newKnown(800)
	flood(k, 0, 100)
	for _, order := range []any{
		"text", []any{}, map[string]any{"nobody": []any{texts([]string{keyExecutables, "/tmp/go-build0/x.test", "x.test"})}},
		map[string]any{"1000": "text"}, map[string]any{"1000": []any{"text", []any{}, []any{"a", nil, "c"}}},
		map[string]any{"1000": []any{texts([]string{keyExecutables, "/none", "x.test"}), texts([]string{"Else", "/tmp/go-build0/x.test", "x.test"})}},
	} {
		state := k.state(nil)
		state[keyOnce], state[keyAgain] = order, state[keyOnce]
		got, _, err := parseState(encodeJSON(state), 800)
		if err != nil || got.total != 100 || len(got.executables) != 100 {
			t.Errorf("%v: %v, %d learned", order, err, got.total)
		}
	}
	state := k.state(nil)
	state[keyAgain] = state[keyOnce] // twice, and more than there is room for
	got, _, err := parseState(encodeJSON(state), 80)
	if err != nil || got.total != 10 || len(got.executables) != 100 {
		t.Errorf("%v, %d learned, %d known", err, got.total, len(got.executables))
	}
}

// Whatever is seen by whom: the maps agree with each other and with what was paid for, no bound is exceeded, and nothing
// is lost that was not forgotten.
func TestWhateverIsSeenTheMapsAgree(t *testing.T) {
	t.Parallel()
	for seed := range uint64(12) {
		random := rand.New(rand.NewPCG(seed, 1))
		k := newKnown(1 + random.IntN(200))
		kept := map[fact]bool{} // since something was forgotten last
		for step := range 600 {
			forgotten := k.forgotten
			f, news := seeSomething(random, k)
			if k.forgotten != forgotten {
				clear(kept)
			}
			_, known := k.facts[f]
			switch {
			case kept[f] && news != novelty{}:
				t.Fatalf("seed %d, step %d: %v is known, and news: %+v", seed, step, f, news)
			case !known && !news.folded && news != novelty{}:
				t.Fatalf("seed %d, step %d: %v is neither kept nor folded", seed, step, f)
			}
			kept[f] = known
			for f, was := range kept {
				if _, is := k.facts[f]; was && !is {
					t.Fatalf("seed %d, step %d: %v is lost, and was not forgotten", seed, step, f)
				}
			}
			if wrong := disagreement(k); wrong != "" {
				t.Fatalf("seed %d, step %d, limit %d: %s", seed, step, k.limit, wrong)
			}
			if k = pass(t, random, k); k.total == 0 && step > 100 {
				t.Fatalf("seed %d, step %d: nothing is kept", seed, step)
			}
		}
	}
}

// seeSomething has an account see a program or a hash.
func seeSomething(random *rand.Rand, k *known) (fact, novelty) {
	payer := account{uid: random.Uint32N(4), scoped: random.IntN(8) == 0}
	path := fmt.Sprint("/", random.IntN(40))
	if random.IntN(50) == 0 {
		path += strings.Repeat("x", 600)
	}
	if random.IntN(4) == 0 {
		f := fact{keyHashes, path, hashOf(random.IntN(5))}
		return f, k.hash(payer, path, f.text)
	}
	f := fact{keyExecutables, path, fmt.Sprint(random.IntN(8))}
	if random.IntN(3) == 0 {
		f.key = keyParentExecutables
	}
	return f, k.program(payer, path, f.text, f.key == keyParentExecutables)
}

// pass lets time pass: now and then a window ends, or a host.
func pass(t *testing.T, random *rand.Rand, k *known) *known {
	t.Helper()
	if random.IntN(10) == 0 {
		k.window++
	}
	if random.IntN(200) != 0 {
		return k
	}
	next, _, err := parseState(encodeJSON(k.state(nil)), k.limit)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

// disagreement says what is wrong with what is known, or "".
func disagreement(k *known) string {
	facts, paths := map[fact]bool{}, map[string]bool{}
	for _, key := range []string{keyExecutables, keyParentExecutables} {
		executables, names := k.programs(key)
		pairs := 0
		for path, set := range executables {
			paths[path] = true
			for name := range set {
				facts[fact{key, path, name}] = true
				if _, ok := names[name][path]; !ok {
					return fmt.Sprintf("%s is not among the paths of %s", path, name)
				}
			}
			if pairs += len(set); len(set) == 0 {
				return path + " has no name"
			}
		}
		for name, set := range names {
			if pairs -= len(set); len(set) == 0 {
				return name + " has no path"
			}
		}
		if pairs != 0 {
			return "there are names without their path"
		}
	}
	for path, verdicts := range k.hashes {
		if !paths[path] {
			return path + " has hashes and is not known"
		}
		for hash := range verdicts {
			facts[fact{keyHashes, path, hash}] = true
		}
	}
	if len(k.hashes) != len(paths) || len(k.facts) != len(facts) {
		return fmt.Sprintf("%d of %d paths have hashes, %d of %d facts are remembered", len(k.hashes), len(paths), len(k.facts), len(facts))
	}
	return unpaid(k, facts)
}

func unpaid(k *known, facts map[fact]bool) string {
	sums, total := map[account]int{}, 0
	for f := range facts {
		e := k.facts[f]
		if e == nil || e.at.Value != any(e) {
			return fmt.Sprintf("%v was learned by nobody", f)
		}
		sums[e.payer] += f.cost()
		total += f.cost()
	}
	listed := 0
	for payer, used := range k.used {
		if sums[payer] != used || used > max(k.limit/8, 1) {
			return fmt.Sprintf("user %s has %d, and is charged %d of %d", payer, sums[payer], used, k.limit/8)
		}
		for range k.inOrder(payer) {
			listed++
		}
	}
	switch {
	case total != k.total || total > k.limit || len(sums) != len(k.used):
		return fmt.Sprintf("%d in all, charged are %d of %d", total, k.total, k.limit)
	case total-k.used[account{}] > k.limit-k.limit/8 && k.limit >= 8:
		return "root's reserve is used up"
	case listed != len(facts):
		return fmt.Sprintf("%d facts, and %d in order", len(facts), listed)
	}
	return ""
}
