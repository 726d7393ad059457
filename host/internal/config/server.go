package config

import (
	"cmp"
	"encoding/json"
	"net"
	"path/filepath"
	"strings"
)

// serverPeers are the servers that `DB sql server` names: nothing else is reached by the plugin. A path in place of a host
// is a socket, and no peer.
func (c Config) serverPeers() []string {
	hosts, ports := c.serverList("hostaddr"), c.serverList("port")
	if len(hosts) == 0 {
		hosts = c.serverList("host")
	}
	if len(c.SQLServer) == 0 || len(hosts) == 0 && c.serverText("unix_socket") != "" {
		return nil
	}
	if len(hosts) == 0 {
		hosts = []string{"localhost"}
	}
	var peers []string
	for i, host := range hosts {
		if strings.HasPrefix(host, "/") {
			continue
		}
		peer := net.JoinHostPort(cmp.Or(host, "localhost"), c.serverPort(ports, i))
		if hostPort(peer) {
			peers = append(peers, peer)
		}
	}
	return peers
}

// serverPort is that of the i-th host: one port holds for all of them.
func (c Config) serverPort(ports []string, i int) string {
	standard := "3306"
	if strings.HasPrefix(c.serverText("client"), "psycopg") {
		standard = "5432"
	}
	switch {
	case i < len(ports):
		return cmp.Or(ports[i], standard)
	case len(ports) == 1:
		return cmp.Or(ports[0], standard)
	}
	return standard
}

// serverPaths are the files that `DB sql server` names: certificates, keys, and the directory of a socket. What the owner of
// the configuration cannot open is refused later.
func (c Config) serverPaths() map[string]string {
	paths := map[string]string{}
	add := func(path string) {
		if filepath.IsAbs(path) && filepath.Clean(path) != "/" {
			paths[filepath.Clean(path)] = "ro"
		}
	}
	for _, host := range c.serverList("host") {
		add(host)
	}
	if socket := c.serverText("unix_socket"); socket != "" {
		add(filepath.Dir(socket))
	}
	for _, key := range []string{"sslrootcert", "sslcert", "sslkey", "ssl_ca", "ssl_cert", "ssl_key"} {
		add(c.serverText(key))
	}
	if object, ok := c.SQLServer["ssl"].(map[string]any); ok {
		for _, key := range []string{"ca", "cert", "key"} {
			text, _ := object[key].(string)
			add(text)
		}
	}
	if len(paths) == 0 {
		return nil
	}
	return paths
}

// serverText is a setting of the server as text, "" if there is none.
func (c Config) serverText(key string) string {
	switch v := c.SQLServer[key].(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	}
	return ""
}

// serverList is a setting that may hold several, separated by commas.
func (c Config) serverList(key string) []string {
	text := c.serverText(key)
	if text == "" {
		return nil
	}
	list := strings.Split(text, ",")
	for i := range list {
		list[i] = strings.TrimSpace(list[i])
	}
	return list
}
