package lab

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// reverseServerAt is on the host's loopback, and no usual resolver is there.
const reverseServerAt = "127.77.0.53"

// reverseServer is a name server that knows what addresses are called.
type reverseServer struct {
	names map[string][]string // by question

	mu    sync.Mutex
	asked map[string]int // guarded by mu
}

// serveReverse answers until the test ends.
func serveReverse(t *testing.T, names map[string][]string) *reverseServer {
	t.Helper()
	socket, err := net.ListenPacket("udp4", net.JoinHostPort(reverseServerAt, "53"))
	if err != nil {
		t.Fatal(err)
	}
	s := &reverseServer{names: names, asked: map[string]int{}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		question := make([]byte, 512)
		for {
			n, from, err := socket.ReadFrom(question)
			if err != nil {
				return
			}
			_, _ = socket.WriteTo(s.answer(question[:n]), from)
		}
	}()
	t.Cleanup(func() {
		_ = socket.Close()
		<-done
	})
	return s
}

func (s *reverseServer) answer(question []byte) []byte {
	var m dnsmessage.Message
	if m.Unpack(question) != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	s.mu.Lock()
	s.asked[q.Name.String()]++
	s.mu.Unlock()
	m.Response, m.RecursionAvailable, m.Additionals, m.RCode = true, true, nil, dnsmessage.RCodeNameError
	for _, name := range s.names[q.Name.String()] {
		m.RCode = dnsmessage.RCodeSuccess
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 60},
			Body:   &dnsmessage.PTRResource{PTR: dnsmessage.MustNewName(name)},
		})
	}
	answer, err := m.Pack()
	if err != nil {
		return nil
	}
	return answer
}

// questions are what it was asked, and how often.
func (s *reverseServer) questions() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.asked)
}

// reverseDNS asks nothing until config.json wants it, then each address once, and rows have the answer beside their domain,
// which stays empty.
func reverseDNS(t *testing.T, l *Lab) {
	const peer = "2.0.77.10.in-addr.arpa."
	server := serveReverse(t, map[string][]string{peer: {"Peer.lab.example.", "also.lab.example."}})
	d := NewDaemon(t, l, 0)
	d.Resolv = filepath.Join(filepath.Dir(d.Run), "resolv.conf")
	if err := os.WriteFile(d.Resolv, []byte("nameserver "+reverseServerAt+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	d.Start()
	c := NewCase(t, l, d)
	v := newConversation(c)
	across := []any{int64(c.Pair.A.Inode), c.Pair.B.V4.String()}
	const windows = `SELECT count(DISTINCT window_end) > 2 FROM connections WHERE netns = ? AND raddr = ? AND domain = ''`
	d.await("1", func() { v.exchange(100) }, windows, across...)
	if asked := server.questions(); len(asked) > 0 {
		t.Errorf("with the default configuration these were asked: %v", asked)
	}
	d.configure(settings{"Plugins": settings{"host": settings{"config": settings{"reverse_dns": true}}}})
	d.reload()
	r := d.watch(0)
	r.begin()

	const row = `SELECT count(*) || ' ' || c.domain || ' ' || c.domain_source || ' ' || group_concat(t.value || ' ' || n.source || ' ' || n.scope)
		FROM connections c JOIN flow_domains n ON n.flow = c.id JOIN texts t ON t.id = n.domain
		WHERE c.netns = ? AND c.raddr = ? AND c.protocol = 6 GROUP BY c.id ORDER BY c.id DESC LIMIT 1`
	d.await("2   example.lab.also ptr host,example.lab.peer ptr host", func() { v.exchange(100) }, row, across...)
	v.exchange(100)
	exe := v.client.Identity().Exe
	e, _ := r.find("flow with the names", func(e liveEvent) bool { return e.Kind == "flow" && e.Exe == exe && len(e.Domains) > 0 })
	if got := fmt.Sprint(e.Domain, e.Domains); got != "[{example.lab.also ptr} {example.lab.peer ptr}]" {
		t.Errorf("events shows %s", got)
	}
	const question = `SELECT count(*) > 0 FROM connections WHERE raddr = ? AND rport = 53 AND uid = 65534 AND exe = ?`
	d.await("1", func() {}, question, reverseServerAt, l.Command)
	v.finish()
	c.Check()
	d.Stop()
	asked := server.questions()
	if asked[peer] != 1 {
		t.Errorf("asked %d times about the peer", asked[peer])
	}
	for question := range asked {
		if !strings.HasSuffix(question, ".arpa.") || strings.HasSuffix(question, ".127.in-addr.arpa.") {
			t.Errorf("asked %s", question)
		}
	}
}

// await does something until a statement that gives one value gives this.
func (d *Daemon) await(want string, do func(), statement string, args ...any) {
	d.t.Helper()
	for end := time.Now().Add(Deadline()); ; time.Sleep(500 * time.Millisecond) {
		do()
		got, err := d.value(statement, args...)
		if got == want {
			return
		}
		if time.Now().After(end) {
			d.t.Fatalf("got %q, %v, want %q\n%s", got, err, want, d.LogTail())
		}
	}
}

// value is what a statement on the daemon's database gives.
func (d *Daemon) value(statement string, args ...any) (string, error) {
	db, err := openDatabase(d.Database())
	if err != nil {
		return "", err
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), Deadline())
	defer cancel()
	var value sql.NullString
	err = db.QueryRowContext(ctx, statement, args...).Scan(&value)
	return value.String, err
}
