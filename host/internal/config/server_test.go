package config

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestServerIsGrantedWhatItsSettingsName(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		settings map[string]any
		peers    []string
		paths    map[string]string
	}{
		"none":       {nil, nil, nil},
		"standard":   {map[string]any{"client": "pymysql"}, []string{"localhost:3306"}, nil},
		"postgresql": {map[string]any{"client": "psycopg", "host": "db"}, []string{"db:5432"}, nil},
		"port":       {map[string]any{"client": "mariadb", "host": "db", "port": json.Number("3307")}, []string{"db:3307"}, nil},
		"several":    {map[string]any{"client": "psycopg2", "host": "a, b", "port": "1,2"}, []string{"a:1", "b:2"}, nil},
		"one port":   {map[string]any{"client": "psycopg2", "host": "a,b", "port": "7"}, []string{"a:7", "b:7"}, nil},
		"address":    {map[string]any{"client": "psycopg", "host": "name", "hostaddr": "10.0.0.1"}, []string{"10.0.0.1:5432"}, nil},
		"directory":  {map[string]any{"client": "psycopg", "host": "/run/postgresql"}, nil, map[string]string{"/run/postgresql": "ro"}},
		"socket": {map[string]any{"client": "mariadb", "unix_socket": "/run/mysqld/mysqld.sock"}, nil,
			map[string]string{"/run/mysqld": "ro"}},
		"certificates": {map[string]any{"client": "psycopg", "host": "db", "sslrootcert": "/etc/p/ca.pem", "sslkey": "relative"},
			[]string{"db:5432"}, map[string]string{"/etc/p/ca.pem": "ro"}},
		"object": {map[string]any{"client": "pymysql", "host": "db", "ssl": map[string]any{"ca": "/etc/p/ca.pem"}},
			[]string{"db:3306"}, map[string]string{"/etc/p/ca.pem": "ro"}},
		"root": {map[string]any{"client": "psycopg", "host": "/"}, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := Config{SQLServer: c.settings}
			if diff := cmp.Diff(c.peers, config.serverPeers()); diff != "" {
				t.Errorf("peers: %s", diff)
			}
			if diff := cmp.Diff(c.paths, config.serverPaths()); diff != "" {
				t.Errorf("paths: %s", diff)
			}
		})
	}
}
