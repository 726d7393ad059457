package storekit

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/picosnitch/picosnitch/sdk"
	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

func compare(column string, values ...string) *wire.Filter {
	c := &wire.Compare{Column: column}
	for _, v := range values {
		c.Values = append(c.Values, []byte(v))
	}
	return &wire.Filter{Kind: &wire.Filter_Compare{Compare: c}}
}

func all(filters ...*wire.Filter) *wire.Filter {
	return &wire.Filter{Kind: &wire.Filter_All{All: &wire.Filters{Filters: filters}}}
}

func anyOf(filters ...*wire.Filter) *wire.Filter {
	return &wire.Filter{Kind: &wire.Filter_Any{Any: &wire.Filters{Filters: filters}}}
}

func not(f *wire.Filter) *wire.Filter { return &wire.Filter{Kind: &wire.Filter_Not{Not: f}} }

// names is a compare that gives the column's name.
func names(c *wire.Compare) (string, error) {
	if c.GetColumn() == "wrong" {
		return "", sdk.ErrQuery
	}
	return c.GetColumn(), nil
}

func TestAFilterBecomesACondition(t *testing.T) {
	t.Parallel()
	for want, f := range map[string]*wire.Filter{
		"1 = 1": nil, "a": compare("a"), "(a AND (b OR c))": all(compare("a"), anyOf(compare("b"), compare("c"))),
		"NOT (a)": not(compare("a")), "NOT (1 = 1)": not(all()), "(1 = 0)": all(anyOf()),
	} {
		if got, err := Condition(f, names); err != nil || got != want {
			t.Errorf("got %s, %v, want %s", got, err, want)
		}
	}
}

func TestAFilterIsBounded(t *testing.T) {
	t.Parallel()
	nested := func(n int) *wire.Filter {
		f := compare("a")
		for range n {
			f = not(f)
		}
		return f
	}
	many := func(n int) *wire.Filter {
		var list []*wire.Filter
		for range n {
			list = append(list, compare("a"))
		}
		return all(list...)
	}
	for name, test := range map[string]struct {
		filter *wire.Filter
		want   string // in the error; "": none
	}{
		"deep": {nested(32), ""}, "too deep": {nested(33), "deeper than 32"},
		"large": {many(999), ""}, "too large": {many(1000), "more than 1000 parts"},
		"values": {compare("a", make([]string, 999)...), ""}, "too many values": {compare("a", make([]string, 1000)...), "more than 1000 values"},
		"wrong inside": {not(all(compare("a"), compare("wrong"))), sdk.ErrQuery.Error()},
	} {
		_, err := Condition(test.filter, names)
		if (err != nil) != (test.want != "") || err != nil && (!errors.Is(err, sdk.ErrQuery) || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
}

func TestASubnetIsTheAddressesBetweenItsFirstAndItsLast(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"192.168.1.77/16": "192.168.0.0 192.168.255.255", "10.1.2.3": "10.1.2.3 10.1.2.3", "0.0.0.0/0": "0.0.0.0 255.255.255.255",
		"fe80::1/10": "fe80:: febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "10.0.0.0/31": "10.0.0.0 10.0.0.1",
		"::ffff:10.1.2.3": "10.1.2.3 10.1.2.3", "fe80::1%eth0": "fe80::1 fe80::1",
	} {
		first, last, err := Subnet([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		a, _ := netip.AddrFromSlice(first)
		z, _ := netip.AddrFromSlice(last)
		if got := fmt.Sprint(a, " ", z); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
	for _, text := range []string{"", "10.0.0.0/33", "10.0.0", "host\x1b"} {
		if _, _, err := Subnet([]byte(text)); !errors.Is(err, sdk.ErrQuery) || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%q: got %v, want %v", text, err, sdk.ErrQuery)
		}
	}
}

func TestAColumnOfNumbersIsEqualToANumberOnly(t *testing.T) {
	t.Parallel()
	if n, err := Number("uid", wire.Compare_EQUAL, []byte("-1")); err != nil || n != -1 {
		t.Errorf("got %d, %v", n, err)
	}
	for operator, value := range map[wire.Compare_Operator]string{wire.Compare_EQUAL: "root", wire.Compare_PREFIX: "1"} {
		if _, err := Number("uid", operator, []byte(value)); !errors.Is(err, sdk.ErrQuery) || !strings.Contains(err.Error(), "uid") {
			t.Errorf("%v %s: got %v", operator, value, err)
		}
	}
}
