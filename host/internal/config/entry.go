package config

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
)

// setPlugin stores what only "Plugins" has.
func (l *loader) setPlugin(n node, field reflect.Value, key string) {
	switch into := field.Addr().Interface().(type) {
	case *map[string]Entry:
		*into = l.entries(n, key)
	case **Network:
		*into = l.network(n, key)
	case *map[string]string:
		*into = l.paths(n, key)
	case *json.RawMessage:
		if _, ok := n.value.(object); !ok {
			l.wrongType(n, key, "an object")
			return
		}
		*into = json.RawMessage(l.data[n.at:n.end])
	case *Redaction:
		members, ok := n.value.(object)
		if !ok {
			l.wrongType(n, key, "an object: { \"rule\": true or false }")
			return
		}
		l.fill(members, into, key+".")
	default:
		l.report(Error, n.at, key, "is of a type that picosnitch cannot read", "")
	}
}

// entries reads "Plugins". An entry with an Error is left out: it could run unpinned or unbounded.
func (l *loader) entries(n node, key string) map[string]Entry {
	out := map[string]Entry{}
	members, ok := n.value.(object)
	if !ok {
		l.wrongType(n, key, "an object")
		return out
	}
	seen := map[string]bool{}
	for _, m := range members {
		path := key + "." + m.key
		before := len(l.problems)
		switch fields, ok := m.value.value.(object); {
		case !PluginName(m.key):
			l.report(Error, m.at, path, "is not a name", "1 to 32 of a-z, 0-9 and -, not beginning with -")
		case seen[m.key]:
			l.report(Error, m.at, path, "stands here a second time", "remove one of the two")
		case !ok:
			l.wrongType(m.value, path, "an object")
		default:
			e := l.entry(fields, m, path+".")
			if !Broken(l.problems[before:]) {
				out[m.key] = e
			}
		}
		seen[m.key] = true
	}
	return out
}

// entry reads one plugin's settings.
func (l *loader) entry(fields object, m member, path string) Entry {
	var e Entry
	if m.key == hostEntry {
		var only struct {
			Config json.RawMessage `json:"config"`
		}
		l.fill(fields, &only, path)
		e.Config = only.Config
		return e
	}
	l.fill(fields, &e, path)
	e.SHA256 = strings.ToLower(e.SHA256)
	if b, err := hex.DecodeString(e.SHA256); e.SHA256 != "" && (err != nil || len(b) != 32) {
		l.about(fields, "sha256", path, "must be 64 hexadecimal digits")
	}
	if e.Path != "" && !cleanPath(e.Path) {
		l.about(fields, "path", path, "must be an absolute path without . or ..")
	}
	if e.Listen != "" && !listenAddress(e.Listen) {
		l.about(fields, "listen", path, "must be \"address:port\", such as 127.0.0.1:5100")
	}
	return e
}

// about reports on the value of a key.
func (l *loader) about(fields object, key, path, what string) {
	n, _ := fields.find(key)
	l.report(Error, n.at, path+key, what, "")
}

// PluginName tells what may name a plugin: it becomes a file name, a directory and a part of logs.
func PluginName(name string) bool {
	if name == "" || len(name) > 32 || name[0] == '-' {
		return false
	}
	return strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// groupName tells what may name a group in group(5).
func groupName(name string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"
	return len(name) <= 32 && name[0] != '-' && strings.Trim(name, letters) == ""
}

func cleanPath(path string) bool {
	return filepath.IsAbs(path) && filepath.Clean(path) == path && !strings.ContainsRune(path, 0)
}

func (l *loader) network(n node, key string) *Network {
	switch v := n.value.(type) {
	case string:
		if v == "none" || v == "host" {
			return &Network{Host: v == "host"}
		}
	case []node:
		out := &Network{}
		for i, e := range v {
			peer, ok := e.value.(string)
			if !ok || !hostPort(peer) {
				l.report(Error, e.at, fmt.Sprintf("%s[%d]", key, i), "must be \"host:port\"", "")
				continue
			}
			out.Peers = append(out.Peers, peer)
		}
		return out
	}
	l.report(Error, n.at, key, "must be \"none\", \"host\" or a list of \"host:port\"", "")
	return nil
}

func hostPort(peer string) bool {
	host, port, err := net.SplitHostPort(peer)
	if err != nil || host == "" || strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r == '/' }) {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}

// listenAddress tells what an interface may be served on: a number and a port that takes no privilege.
func listenAddress(text string) bool {
	address, err := netip.ParseAddrPort(text)
	return err == nil && address.Port() >= 1024 && address.Addr().Zone() == ""
}

func (l *loader) paths(n node, key string) map[string]string {
	members, ok := n.value.(object)
	if !ok {
		l.wrongType(n, key, "an object: { \"/path\": \"ro\" or \"rw\" }")
		return nil
	}
	out := map[string]string{}
	for _, m := range members {
		mode, _ := m.value.value.(string)
		switch {
		case !cleanPath(m.key) || m.key == "/":
			l.report(Error, m.at, key+"."+m.key, "must be an absolute path without . or .., and not /", "")
		case mode != "ro" && mode != "rw":
			l.report(Error, m.value.at, key+"."+m.key, "must be \"ro\" or \"rw\"", "")
		default:
			out[m.key] = mode
		}
	}
	return out
}

// host reads the host's own settings out of Plugins.host.config.
func (l *loader) host(members object) Host {
	h := defaultHost()
	for _, key := range []string{"Plugins", hostEntry, "config"} {
		n, _ := members.find(key)
		next, ok := n.value.(object)
		if !ok {
			return h
		}
		members = next
	}
	l.fill(members, &h, "Plugins.host.config.")
	if h.Group != "" && !groupName(h.Group) {
		l.about(members, "group", "Plugins.host.config.", "is not the name of a group")
		h.Group = ""
	}
	return h
}
