package capture

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"testing"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// numbered forks a process with the number that is its argument (clone3 with set_tid), which says from which port it sends,
// and sends datagrams to the ports and of the lengths that it is told.
const numbered = `
use Socket; $| = 1;
my $number = pack("i", shift);
my $arguments = pack("Q*", 0, 0, 0, 0, 17, 0, 0, 0, unpack("Q", pack("P", $number)), 1, 0);
my $pid = syscall(435, $arguments, length $arguments);
die "clone3: $!\n" if $pid < 0;
if ($pid) { waitpid($pid, 0); exit $? >> 8 }
socket(S, PF_INET, SOCK_DGRAM, 0) and bind(S, sockaddr_in(0, INADDR_LOOPBACK)) or die $!;
print((sockaddr_in(getsockname(S)))[0], "\n");
while (<STDIN>) {
	my ($port, $length) = split;
	send(S, "x" x $length, 0, sockaddr_in($port, INADDR_LOOPBACK)) or die $!;
	print "sent\n";
}
`

// sender is a process that runs numbered.
type sender struct {
	number, port int
	in           io.WriteCloser
	out          *bufio.Reader
	cmd          *exec.Cmd
}

func TestThreadsWhoseNumbersShareAPlaceKeepTheirPeers(t *testing.T) {
	k := open(t, testOptions(t, "desks"))
	first, second := startTwins(t, int(k.objects.maps[kernelMapDesks].MaxEntries()))
	for i := range 3 {
		first.send(t, newDatagram(t).port, 10+i)
		second.send(t, newDatagram(t).port, 100+i)
	}
	if err := k.objects.maps[kernelMapThreads].Lookup(uint32(second.number), new([32]byte)); err != nil {
		t.Errorf("the note of the second: %v: the test proves nothing", err)
	}
	s := finish(t, k)
	expectDatagrams(t, s, first, 10, 11, 12)
	expectDatagrams(t, s, second, 100, 101, 102)
}

// startTwins starts two senders whose numbers differ by places, where both are free.
func startTwins(t *testing.T, places int) (first, second *sender) {
	t.Helper()
	for number := places / 2; number < places; number++ {
		if first, err := startSender(t, number); err == nil {
			if second, err := startSender(t, number+places); err == nil {
				return first, second
			}
			first.in.Close()
		}
	}
	t.Fatalf("there are no two free numbers that differ by %d", places)
	return nil, nil
}

func startSender(t *testing.T, number int) (*sender, error) {
	t.Helper()
	s := &sender{number: number, cmd: exec.Command("perl", "-e", numbered, strconv.Itoa(number))}
	s.cmd.Stderr = testWriter{t}
	var err error
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.out = bufio.NewReader(out)
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.in.Close()
		_ = s.cmd.Wait() // one whose number was taken has failed
	})
	_, err = fmt.Fscanln(s.out, &s.port)
	return s, err
}

func (s *sender) send(t *testing.T, to uint16, length int) {
	t.Helper()
	if _, err := fmt.Fprintln(s.in, to, length); err != nil {
		t.Fatal(err)
	}
	if line, err := s.out.ReadString('\n'); line != "sent\n" {
		t.Fatalf("it said %q: %v", line, err)
	}
}

// expectDatagrams wants one flow with a known peer for each length.
func expectDatagrams(t *testing.T, s *seen, by *sender, lengths ...uint64) {
	t.Helper()
	missing := map[uint64]bool{}
	for _, length := range lengths {
		missing[length] = true
	}
	for _, w := range s.windows {
		for _, f := range w.Flows {
			if int(f.Process.Tgid) != by.number || int(f.Local.Port()) != by.port {
				continue
			}
			if f.Peer != wire.Peer_PEER_EXACT || f.Sends != 1 || !missing[f.Sent] {
				t.Errorf("%+v", f)
			}
			delete(missing, f.Sent)
		}
	}
	if len(missing) != 0 {
		t.Errorf("process %d: no flow of %v bytes", by.number, missing)
	}
}
