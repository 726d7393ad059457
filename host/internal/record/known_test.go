package record

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The files in testdata were written by Python's json.dump with the arguments of 1.0.3.
func TestRecordFileOfPythonComesBackByteForByte(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"testdata/record-1.0.3.json", "testdata/empty-1.0.3.json"} {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		k, err := parseRecord(data, 100)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(string(data), string(encodeJSON(k.document()))); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestKeysThatDifferInOneInvalidByteStayTwo(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/record-1.0.3.json")
	if err != nil {
		t.Fatal(err)
	}
	k, err := parseRecord(data, 100)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := k.executables.list("/tmp/odd-\xff"), k.executables.list("/tmp/odd-\xfe"); len(a) != 1 || len(b) != 1 || a[0] == b[0] {
		t.Errorf("got %q and %q", a, b)
	}
}

func TestStateComesBackWithAccountsAndCopies(t *testing.T) {
	t.Parallel()
	k := newKnown(800)
	k.program(account{uid: 7}, "/a\xff", "n", false)
	k.program(account{uid: 7, scoped: true}, "x:/a", "n", true)
	k.hash(account{}, "/a\xff", strings.Repeat("a", 64))
	got, copies, err := parseState(encodeJSON(k.state([]string{"1", "2"})), 800)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(encodeJSON(k.state(nil))), string(encodeJSON(got.state(nil)))); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(k.quota, got.quota, cmp.AllowUnexported(quota{}, account{})); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"1", "2"}, copies); diff != "" {
		t.Error(diff)
	}
}

func TestDecodeJSONSaysWhereItIsWrong(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                        "1:1: ",
		"{\n \"a\": tru\n}":       "2:7: ",
		`{"a"}`:                   "1:5: ",
		`{"a":1,}`:                "1:8: ",
		`["a" "b"]`:               "1:6: ",
		`"abc`:                    "1:5: ",
		"\"a\nb\"":                "1:3: ",
		`"\x"`:                    "1:3: ",
		`"\u12g4"`:                "1:4: ",
		`{} {}`:                   "1:4: ",
		strings.Repeat("[", 1000): "1:18: ",
	} {
		if _, err := decodeJSON([]byte(in)); !errors.Is(err, errJSON) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%.20q: %v, want %s", in, err, want)
		}
	}
}

func TestDecodeJSONUnescapes(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`"\"\\\/\b\f\n\r\t"`:   "\"\\/\b\f\n\r\t",
		`"\u00e9\ud83d\ude00"`: "é😀",
		`"\udcff\udc80"`:       "\xff\x80",
		`"\ud83dx"`:            "\ufffdx",
		"\"\xff\xfe\"":         "\xff\xfe",
	} {
		if got, err := decodeJSON([]byte(in)); err != nil || got != want {
			t.Errorf("%s: %q, %v", in, got, err)
		}
	}
}

func TestOneUserCannotUseUpWhatIsKnown(t *testing.T) {
	t.Parallel()
	k := newKnown(800)
	for i := range 5000 {
		k.program(account{uid: uint32(1000 + i%500)}, fmt.Sprintf("/tmp/%d", i), "x", false)
	}
	if k.total != 700 || len(k.facts) != 700 {
		t.Errorf("500 users kept %d entries for %d, want all but root's eighth", len(k.facts), k.total)
	}
	for i := range 200 {
		k.program(account{}, fmt.Sprintf("/usr/%d", i), "x", false)
	}
	if k.used[account{}] != 100 || k.total != 800 {
		t.Errorf("root has %d of %d", k.used[account{}], k.total)
	}
	one := newKnown(800)
	for i := range 5000 {
		one.program(account{uid: 5}, fmt.Sprintf("/tmp/%d", i), "x", false)
	}
	if news := one.program(account{uid: 6}, "/quiet", "q", false); news.folded || one.total != 101 {
		t.Errorf("after a flood: %+v, %d entries", news, one.total)
	}
	long := newKnown(800)
	if long.program(account{uid: 5}, strings.Repeat("p", 4096), "x", false); long.total != 17 {
		t.Errorf("a long path costs %d", long.total)
	}
}

// TestKnownFitsIntoItsFile is about users who choose paths that take the most room in JSON: a file that cannot be read again
// would keep the next start from starting.
func TestKnownFitsIntoItsFile(t *testing.T) {
	t.Parallel()
	k := newKnown(Options{}.withDefaults().Known)
	for uid := range uint32(9) { // more than have a share
		for i := range k.limit {
			path := fmt.Sprintf("/%s%d", strings.Repeat("\x01", 240), i)
			news := k.program(account{uid: uid}, fmt.Sprint(uid)+path, "\x01\x01\x01\x01", uid%2 == 0)
			if k.window++; news.folded || k.forgotten > 0 {
				k.forgotten = 0
				break
			}
		}
	}
	if size := len(encodeJSON(k.state(nil))); size > fileLimit {
		t.Errorf("known.json would have %d bytes, and may have %d", size, fileLimit)
	}
}

func TestDifferenceIsSaidInWords(t *testing.T) {
	t.Parallel()
	before, now := newKnown(10), newKnown(10)
	before.names["a"], before.names["b"] = nil, nil
	now.executables["/evil"] = map[string]int{"e": 1}
	now.hashes["/a"] = map[string]string{"1": "", "2": ""}
	if got, want := difference(before, now), "+1 executable, -2 names, +2 hashes"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := difference(now, now); got != "" {
		t.Errorf("nothing differs, got %q", got)
	}
}

func FuzzJSONRoundTrip(f *testing.F) {
	data, err := os.ReadFile("testdata/record-1.0.3.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"a":{"b":["\udcff"]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		k, err := parseRecord(data, 100)
		if err != nil {
			return
		}
		once := encodeJSON(k.document())
		again, err := parseRecord(once, 100)
		if err != nil {
			t.Fatalf("%q: %v", once, err)
		}
		if !bytes.Equal(once, encodeJSON(again.document())) {
			t.Errorf("%q is not stable", once)
		}
	})
}
