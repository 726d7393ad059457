package helper

import (
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/dns/dnsmessage"
)

// nameServer answers on a loopback address: names gives what is called by the first label of the question, and nil for what
// there is not. It counts questions.
func nameServer(t *testing.T, network, address string, names func(label string) []string) (at netip.AddrPort, asked *atomic.Int32) {
	t.Helper()
	socket, err := net.ListenPacket(network, address)
	must(t, err)
	asked = new(atomic.Int32)
	done := make(chan struct{})
	go func() {
		defer close(done)
		buffer := make([]byte, 512)
		for {
			n, from, err := socket.ReadFrom(buffer)
			if err != nil {
				return
			}
			asked.Add(1)
			if reply := answerTo(buffer[:n], names); reply != nil {
				_, _ = socket.WriteTo(reply, from)
			}
		}
	}()
	t.Cleanup(func() {
		_ = socket.Close()
		<-done
	})
	return socket.LocalAddr().(*net.UDPAddr).AddrPort(), asked
}

func answerTo(question []byte, names func(string) []string) []byte {
	var m dnsmessage.Message
	if m.Unpack(question) != nil || len(m.Questions) != 1 || m.Questions[0].Type != dnsmessage.TypePTR {
		return nil
	}
	label, _, _ := strings.Cut(m.Questions[0].Name.String(), ".")
	found := names(label)
	switch {
	case len(found) == 1 && found[0] == "broken":
		m.RCode, found = dnsmessage.RCodeServerFailure, nil
	case found == nil:
		m.RCode = dnsmessage.RCodeNameError
	}
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	for _, name := range found {
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET, TTL: 60},
			Body:   &dnsmessage.PTRResource{PTR: dnsmessage.MustNewName(name)},
		})
	}
	answer, err := m.Pack()
	if err != nil {
		return nil
	}
	return answer
}

func TestAddressesAreLookedUpWithoutRights(t *testing.T) {
	t.Parallel()
	for network, address := range map[string]string{"udp4": "127.0.0.1:0", "udp6": "[::1]:0"} {
		server, asked := nameServer(t, network, address, func(label string) []string {
			return map[string][]string{
				"1": {"one.example."}, "2": {"d.example.", "b.example.", "e.example.", "c.example.", "a.example."},
				"4": {"broken"}, "5": {"good.example.", "\x1b[31m.example."}, "f": {"six.example."},
			}[label]
		})
		pool := newPool(t, Options{Resolver: server})
		var addresses []netip.Addr
		for _, text := range []string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5", "2001:db8::f"} {
			addresses = append(addresses, netip.MustParseAddr(text))
		}
		got, err := pool.Reverse(t.Context(), addresses)
		must(t, err)
		want := []ReverseAnswer{
			{Names: []string{"one.example."}}, {Names: []string{"a.example.", "b.example.", "c.example.", "d.example."}}, {},
			{Error: got[min(3, len(got)-1)].Error}, {Names: []string{"good.example."}}, {Names: []string{"six.example."}},
		}
		for i := range want {
			want[i].Answered = true
		}
		if want[3].Error == "" {
			t.Errorf("%s: a server that cannot find out gives no error", network)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", network, diff)
		}
		if s := pool.Stats(); s.Started != 1 || asked.Load() < 6 {
			t.Errorf("%s: %d helpers asked %d questions", network, s.Started, asked.Load())
		}
	}
}

func TestLookingUpSaysWhyNobodyAnswers(t *testing.T) {
	t.Parallel()
	pool := newPool(t, Options{Resolver: netip.MustParseAddrPort("127.0.0.1:1")})
	got, err := pool.Reverse(t.Context(), []netip.Addr{netip.MustParseAddr("192.0.2.1")})
	if err != nil || len(got) != 1 || got[0].Answered || !strings.Contains(got[0].Error, "refused") {
		t.Errorf("%+v, %v", got, err)
	}
	for name, n := range map[string]int{"none": 0, "too many": MaxReverse + 1} {
		if _, err := pool.Reverse(t.Context(), make([]netip.Addr, n)); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
