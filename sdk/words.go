package sdk

import (
	"strconv"

	"google.golang.org/protobuf/reflect/protoreflect"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

// The words below stand in databases and in the hash chain: they never change. "" is "not known"; a value that this SDK
// does not know is its number.

// word looks up an enum's value among its words.
func word(value protoreflect.EnumNumber, words ...string) string {
	if value >= 0 && int(value) < len(words) {
		return words[value]
	}
	return strconv.Itoa(int(value))
}

// DirectionWord is the word for a direction.
func DirectionWord(d wire.Direction) string { return word(d.Number(), "", "out", "in") }

// ResultWord is the word for the result of a connect.
func ResultWord(r wire.Result) string {
	return word(r.Number(), "", "pending", "open", "refused", "timed-out", "abandoned", "failed", "listening")
}

// LayerWord is the word for the layer where bytes were counted.
func LayerWord(l wire.Layer) string {
	return word(l.Number(), "", "socket", "packet", "tunnel", "interface")
}

// PeerWord is the word for how well a peer is known.
func PeerWord(p wire.Peer) string { return word(p.Number(), "", "exact", "inferred", "none", "folded") }

// NameSourceWord is the word for where a domain comes from.
func NameSourceWord(s wire.NameSource) string {
	return word(s.Number(), "", "getaddrinfo", "dns-process", "sni", "dns-namespace", "ptr", "sni-outer")
}

// AttributionWord is the word for how a process was found.
func AttributionWord(a wire.Attribution) string {
	return word(a.Number(), "", "kernel", "iterator", "proc", "listener")
}

// CountingWord is the word for how bytes were counted.
func CountingWord(c wire.Counting) string {
	return word(c.Number(), "", "tracepoint", "fexit", "cgroup", "kprobe", "estimate")
}

// HashStatusWord is the word for how far to trust a SHA-256, or why there is none.
func HashStatusWord(h wire.HashStatus) string {
	return word(h.Number(), "", "ok", "pending", "gone", "changed", "too-large", "timeout", "unreadable", "kernel",
		"racy", "as-served")
}

// NoticeWord is the word for a kind of notice.
func NoticeWord(k wire.NoticeKind) string {
	return word(k.Number(), "", "new-executable", "new-name", "new-sha256", "suspicious", "error", "pretends", "learned",
		"edited")
}

// GapWord is the word for the reason of a gap.
func GapWord(r wire.GapReason) string {
	return word(r.Number(), "", "host-down", "suspended", "events-lost", "map-full", "hook-missing", "queue-dropped",
		"clock-stepped", "canary-lost", "journal-rolled-back", "journal-corrupt", "poison", "unclean-stop", "uncounted")
}
