package sdk

import (
	"slices"
	"strings"

	wire "github.com/picosnitch/picosnitch/sdk/proto"
)

func execEntries() []entry {
	return slices.Concat(
		pick("host_id", "epoch", "seq", "contime", "window_start", "window_end"), selfEntries(), parentEntries())
}

// selfEntries are the columns of a process without its ancestors.
func selfEntries() []entry {
	return slices.Concat(pick("exe", "name", "cmdline", "sha256", "uid"), processEntries())
}

func parentEntries() []entry {
	return slices.Concat(pick("pexe", "pname", "pcmdline", "psha256"), ancestorEntries())
}

func listenEntries() []entry {
	return slices.Concat(pick("host_id", "epoch", "seq"), []entry{
		{name: "time", doc: timeDoc, number: func(v *view) int64 { return v.record.GetListen().GetTime() }},
		{name: "ended", doc: "1: ceased to listen", number: func(v *view) int64 { return truth(v.record.GetListen().GetEnded()) }},
	}, pick("family", "protocol", "laddr", "lport"), selfEntries(), pick("truncated"))
}

func nameEntries() []entry {
	return slices.Concat(pick("host_id", "epoch", "seq"), []entry{
		{name: "time", doc: timeDoc, number: func(v *view) int64 { return v.record.GetName().GetTime() }},
		{name: "address", doc: "that the name was learned for", text: func(v *view) string {
			return Address(&wire.Endpoint{Ip: v.record.GetName().GetIp()})
		}},
		{name: "scope", doc: "whose the evidence is: process, netns, host", text: func(v *view) string {
			return EscapeString(v.domain.GetScope())
		}},
	}, pick("domain", "domain_source", "netns", "pid", "start_time", "exec_id", "boot_id", "truncated"))
}

func noticeEntries() []entry {
	return slices.Concat(pick("host_id", "epoch", "seq"), []entry{
		{name: "time", doc: timeDoc, number: func(v *view) int64 { return v.record.GetNotice().GetTime() }},
		{name: "notice", doc: "new-executable, new-name, new-sha256, suspicious, error, pretends, learned, edited",
			text: func(v *view) string { return NoticeWord(v.record.GetNotice().GetKind()) }},
		{name: "text", doc: "for a person", text: func(v *view) string { return textOf(v.record.GetNotice().GetText()) }},
		{name: "parent", doc: "1: the process was seen as a parent", number: func(v *view) int64 {
			return truth(v.record.GetNotice().GetParent())
		}},
	}, selfEntries(), pick("truncated"))
}

func gapEntries() []entry {
	return slices.Concat(pick("host_id", "epoch", "seq"), []entry{
		{name: "start", doc: timeDoc, number: func(v *view) int64 { return v.record.GetGap().GetStart() }},
		{name: "end", doc: timeDoc, number: func(v *view) int64 { return v.record.GetGap().GetEnd() }},
		{name: "reason", doc: "why the view was incomplete", text: func(v *view) string {
			return GapWord(v.record.GetGap().GetReason())
		}},
		{name: "cause", doc: "which map, hook or queue", text: func(v *view) string {
			return EscapeString(v.record.GetGap().GetCause())
		}},
		{name: "events", doc: "lost, when known", number: func(v *view) int64 { return int64(v.record.GetGap().GetEvents()) }},
		{name: "send", doc: "bytes sent that no row has, when known", number: func(v *view) int64 {
			return int64(v.record.GetGap().GetSent())
		}},
		{name: "recv", doc: "bytes received that no row has, when known", number: func(v *view) int64 {
			return int64(v.record.GetGap().GetReceived())
		}},
		{name: "gap_epoch", doc: "of the records dropped, hexadecimal", text: func(v *view) string {
			return hexText(v.record.GetGap().GetEpoch())
		}},
		{name: "first", doc: "first record dropped", number: func(v *view) int64 { return int64(v.record.GetGap().GetFirst()) }},
		{name: "last", doc: "last record dropped", number: func(v *view) int64 { return int64(v.record.GetGap().GetLast()) }},
		{name: "sink", doc: "the only one concerned; empty: all", text: func(v *view) string {
			return EscapeString(v.record.GetGap().GetSink())
		}},
	}, selfEntries(), pick("truncated"))
}

func verdictEntries() []entry {
	return slices.Concat(pick("host_id", "epoch", "seq"), []entry{
		{name: "time", doc: timeDoc, number: func(v *view) int64 { return v.record.GetVerdict().GetTime() }},
		{name: "sha256", doc: "of the file", text: func(v *view) string { return hexText(v.record.GetVerdict().GetSha256()) }},
		{name: "source", doc: "who says so", text: func(v *view) string {
			return EscapeString(v.record.GetVerdict().GetSource())
		}},
		{name: "suspicious", doc: "1: yes", number: func(v *view) int64 {
			return truth(v.record.GetVerdict().GetSuspicious())
		}},
		{name: "text", doc: "in the scanner's words", text: func(v *view) string {
			return EscapeString(v.record.GetVerdict().GetText())
		}},
	})
}

func hashResolvedEntries() []entry {
	return slices.Concat(pick("host_id", "epoch", "seq"), []entry{
		{name: "time", doc: timeDoc, number: func(v *view) int64 { return v.record.GetHashResolved().GetTime() }},
		{name: "superblock", doc: "of the file", number: func(v *view) int64 {
			return int64(v.record.GetHashResolved().GetSuperblock())
		}},
		{name: "dev", doc: "of the file", number: func(v *view) int64 { return int64(v.record.GetHashResolved().GetDevice()) }},
		{name: "inode", doc: "of the file", number: func(v *view) int64 { return int64(v.record.GetHashResolved().GetInode()) }},
		{name: "ctime", doc: timeDoc, number: func(v *view) int64 { return v.record.GetHashResolved().GetCtime() }},
		{name: "size", doc: "in bytes", number: func(v *view) int64 { return int64(v.record.GetHashResolved().GetSize()) }},
		{name: "sha256", doc: "of the file", text: func(v *view) string {
			return hexText(v.record.GetHashResolved().GetSha256())
		}},
		{name: "hash_status", doc: "as in connections", text: func(v *view) string {
			return HashStatusWord(v.record.GetHashResolved().GetHashStatus())
		}},
		{name: "records_epoch", doc: "of the records affected, hexadecimal", text: func(v *view) string {
			return hexText(v.record.GetHashResolved().GetEpoch())
		}},
		{name: "first", doc: "first record affected", number: func(v *view) int64 {
			return int64(v.record.GetHashResolved().GetFirst())
		}},
		{name: "last", doc: "last record affected", number: func(v *view) int64 {
			return int64(v.record.GetHashResolved().GetLast())
		}},
	})
}

func configEntries() []entry {
	return slices.Concat(pick("host_id", "epoch", "seq"), []entry{
		{name: "time", doc: timeDoc, number: func(v *view) int64 { return v.record.GetConfig().GetTime() }},
		{name: "source", doc: "the file", text: func(v *view) string { return textOf(v.record.GetConfig().GetSource()) }},
		{name: "changed", doc: "keys, separated by commas", text: func(v *view) string {
			return EscapeString(strings.Join(v.record.GetConfig().GetChanged(), ","))
		}},
	})
}

const timeDoc = "UTC, nanoseconds since 1970"
