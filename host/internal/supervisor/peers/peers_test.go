package peers

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestPeersAreParsed(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Peer{
		"db.example.org:5432": {"db.example.org", 5432}, "DB.Example.org:1": {"db.example.org", 1}, "localhost:65535": {"localhost", 65535},
		"192.0.2.1:443": {"192.0.2.1", 443}, "[2001:db8::1]:443": {"2001:db8::1", 443}, "_x._tcp.a-b:1": {"_x._tcp.a-b", 1},
	} {
		if got, err := Parse(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for _, bad := range []string{
		"", "host", "host:", ":1", "host:0", "host:65536", "host:http", "a b:1", "a\n127.0.0.1 evil:1", "[fe80::1%eth0]:1", "*.example.org:1",
		"-a:1", "a-.b:1", "a..b:1", strings.Repeat("a", 64) + ":1", strings.Repeat("a.", 127) + "a:1", "2001:db8::1:443",
	} {
		if p, err := Parse(bad); err == nil {
			t.Errorf("%q was taken as %+v", bad, p)
		}
	}
}

func TestBookKeepsWhatItKnew(t *testing.T) {
	t.Parallel()
	answers := map[string][]netip.Addr{
		"db":  {netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("::ffff:192.0.2.1"), netip.MustParseAddr("192.0.2.2")},
		"www": {netip.MustParseAddr("2001:db8::1")},
	}
	peers, err := ParseAll([]string{"db:1", "db:2", "www:443", "198.51.100.1:9"})
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	b := NewBook(peers, func(_ context.Context, host string) ([]netip.Addr, error) {
		asked++
		if a := answers[host]; a != nil {
			return slices.Clone(a), nil
		}
		return nil, errors.New("no such host")
	})
	if err := b.Refresh(t.Context()); err != nil || asked != 2 {
		t.Errorf("%d questions, %v", asked, err)
	}
	want := "[192.0.2.1:1 192.0.2.1:2 192.0.2.2:1 192.0.2.2:2 198.51.100.1:9 [2001:db8::1]:443]"
	text := func() string {
		var all []string
		for _, a := range b.Addresses() {
			all = append(all, a.String())
		}
		return "[" + strings.Join(all, " ") + "]"
	}
	if got := text(); got != want {
		t.Errorf("addresses %s, want %s", got, want)
	}
	hosts := string(b.Hosts())
	for _, line := range []string{"192.0.2.1 db\n", "192.0.2.2 db\n", "2001:db8::1 www\n"} {
		if strings.Count(hosts, line) != 1 {
			t.Errorf("%q is not once in:\n%s", line, hosts)
		}
	}
	answers["db"] = nil
	if err := b.Refresh(t.Context()); err == nil || !strings.Contains(err.Error(), "look up db: ") {
		t.Errorf("error = %v", err)
	}
	if got := text(); got != want {
		t.Errorf("after a failure the addresses are %s", got)
	}
}

func TestAddressesOfBothFamiliesAreOneKind(t *testing.T) {
	t.Parallel()
	plain, mapped := encode(netip.MustParseAddrPort("192.0.2.1:258")), encode(netip.MustParseAddrPort("[::ffff:192.0.2.1]:258"))
	if plain != mapped {
		t.Errorf("%x and %x", plain, mapped)
	}
	want := key{10: 0xff, 11: 0xff, 12: 192, 13: 0, 14: 2, 15: 1, 16: 1, 17: 2}
	if plain != want {
		t.Errorf("%x, want %x", plain, want)
	}
}
