package supervisor

import (
	"errors"
	"fmt"
	"testing"
)

func TestUIDsAreDistinctAndStable(t *testing.T) {
	t.Parallel()
	u := UIDs{First: 61100, Last: 61163}
	var names []string
	for i := range 64 {
		names = append(names, fmt.Sprintf("plugin%d", i))
	}
	first, err := u.assign(names)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[uint32]bool{}
	for _, uid := range first {
		if seen[uid] || uid < u.First || uid > u.Last {
			t.Errorf("uid %d", uid)
		}
		seen[uid] = true
	}
	again, err := u.assign(names)
	if err != nil || fmt.Sprint(again) != fmt.Sprint(first) {
		t.Errorf("the second time differs, %v", err)
	}
	if _, err := u.assign(append(names, "one-more")); !errors.Is(err, errNoUID) {
		t.Errorf("error = %v, want errNoUID", err)
	}
}

func TestUIDsOfOthersAreLeftAlone(t *testing.T) {
	t.Parallel()
	// Root has a name and processes.
	if _, err := (UIDs{First: 0, Last: 0}).assign([]string{"x"}); !errors.Is(err, errNoUID) {
		t.Errorf("error = %v, want errNoUID", err)
	}
}

func TestParseUIDs(t *testing.T) {
	t.Parallel()
	if u, err := ParseUIDs("60900-60963"); err != nil || u != DefaultUIDs() {
		t.Errorf("%v, %v", u, err)
	}
	for _, bad := range []string{"", "60900", "5-6", "70000-60000", "a-b", "60900-99999999999"} {
		if _, err := ParseUIDs(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
