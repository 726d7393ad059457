package canary

import (
	"slices"

	"github.com/picosnitch/picosnitch/host/internal/capture"
)

// sense is one thing that the probes must be able to see, by the kernel programs that see it, whichever was chosen.
type sense uint8

const (
	sends sense = iota
	receives
	states
	peersSentV4
	peersSentV6
	peersReceivedV4
	peersReceivedV6
	peersDelivered
	execs
	exits
	senses
)

// programs are the names of a sense's programs in the BPF object.
func (s sense) programs() []string {
	return [senses][]string{
		sends:           {"sock_send", "inet_send"},
		receives:        {"sock_receive", "inet_receive"},
		states:          {"sock_state"},
		peersSentV4:     {"send_to_v4"},
		peersSentV6:     {"send_to_v6"},
		peersReceivedV4: {"receive_v4"},
		peersReceivedV6: {"receive_v6"},
		peersDelivered:  {"arrive"},
		execs:           {"process_exec"},
		exits:           {"process_exit"},
	}[s]
}

// words names every sense that this kernel has, as capture does. What is not at work is a gap already, and not judged.
func words(hooks []capture.Hook) map[sense]string {
	has := map[sense]string{}
	for s := range senses {
		for _, h := range hooks {
			if slices.ContainsFunc(h.Programs, func(p string) bool { return slices.Contains(s.programs(), p) }) {
				has[s] = h.Sees
			}
		}
	}
	return has
}
