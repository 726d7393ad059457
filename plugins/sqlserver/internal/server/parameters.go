package server

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Parameter is one setting beside `client`.
type Parameter struct {
	Name    string
	Clients []string // that it exists for
	Type    string   // of JSON: string, integer, boolean
	Secret  bool
	Doc     string // for the guide and the schema

	set func(*login, value) error // its error continues the name
}

// Parameters are all settings beside `client`, in the order of the guide.
func Parameters() []Parameter {
	return slices.Concat(bothParameters(), postgresParameters(), mysqlParameters())
}

func psycopg() []string { return []string{"psycopg", "psycopg2"} }
func python() []string  { return []string{"mariadb", "pymysql"} }

func bothParameters() []Parameter {
	return []Parameter{
		{"table_name", Clients(), "string", false, "name of the table, `connections` if there is none; the names of the others begin with it", setTable},
		{"host", Clients(), "string", false, "name or address of the server; for PostgreSQL also the directory of its unix socket, or several separated by commas", text(func(l *login) *string { return &l.host })},
		{"port", Clients(), "integer", false, "5432 or 3306 if there is none", setPort},
		{"user", Clients(), "string", false, "to log in as", text(func(l *login) *string { return &l.user })},
		{"password", Clients(), "string", true, "of the user", text(func(l *login) *string { return &l.password })},
		{"database", Clients(), "string", false, "to work in", text(func(l *login) *string { return &l.database })},
		{"connect_timeout", Clients(), "integer", false, "seconds to wait for a connection, 10 if there is none", setTimeout},
		{"browse_only", Clients(), "boolean", false, "true: store nothing of this host, only answer questions about what others stored", func(l *login, v value) error { l.browse = v.flag; return nil }},
		{"autocommit", Clients(), "boolean", false, "has no effect: the plugin commits each batch", func(*login, value) error { return nil }},
	}
}

func postgresParameters() []Parameter {
	list := []Parameter{
		{"dbname", psycopg(), "string", false, "the same as `database`", text(func(l *login) *string { return &l.database })},
		{"hostaddr", psycopg(), "string", false, "address to connect to, instead of looking up `host`, which the certificate is still checked for", text(func(l *login) *string { return &l.address })},
		{"client_encoding", psycopg(), "string", false, "only `utf8`, which is used anyway", setEncoding},
	}
	for _, p := range [][2]string{
		{"sslmode", "`disable`, `allow`, `prefer` (if there is none), `require`, `verify-ca` or `verify-full`; only the last one knows whom it talks to"},
		{"sslrootcert", "file of the certificates to trust, PEM"},
		{"sslcert", "file of the certificate to log in with, PEM"},
		{"sslkey", "file of its key, PEM"},
		{"sslpassword", "of the key"},
		{"sslsni", "`0`: do not tell the server's name in clear text"},
		{"sslnegotiation", "`direct`: TLS without asking first, PostgreSQL 17 and later"},
		{"channel_binding", "`disable`, `prefer` or `require`"},
		{"require_auth", "ways to log in that are allowed"},
		{"target_session_attrs", "of several hosts, which one to use: `any`, `read-write`, `primary`, …"},
		{"application_name", "shown in the server's lists, `picosnitch` if there is none"},
		{"options", "options for the session, such as `-c search_path=audit`"},
	} {
		kind := "string"
		list = append(list, Parameter{p[0], psycopg(), kind, p[0] == "sslpassword", p[1], func(l *login, v value) error {
			l.params[p[0]] = v.text
			return nil
		}})
	}
	return list
}

func mysqlParameters() []Parameter {
	flag := func(to func(*login) *bool) func(*login, value) error {
		return func(l *login, v value) error { *to(l) = v.flag; return nil }
	}
	return []Parameter{
		{"username", []string{"mariadb"}, "string", false, "the same as `user`", text(func(l *login) *string { return &l.user })},
		{"passwd", python(), "string", true, "the same as `password`", text(func(l *login) *string { return &l.password })},
		{"db", python(), "string", false, "the same as `database`", text(func(l *login) *string { return &l.database })},
		{"unix_socket", python(), "string", false, "path of the server's socket, instead of `host`", text(func(l *login) *string { return &l.socket })},
		{"read_timeout", python(), "integer", false, "seconds to wait for an answer of the server; 0, as without it, leaves that to the caller", seconds(func(l *login) *time.Duration { return &l.readTimeout })},
		{"write_timeout", python(), "integer", false, "seconds to wait until the server takes what is sent", seconds(func(l *login) *time.Duration { return &l.writeTimeout })},
		{"charset", []string{"pymysql"}, "string", false, "only `utf8mb4`, which is used anyway", setEncoding},
		{"compress", python(), "boolean", false, "compress what is sent", flag(func(l *login) *bool { return &l.compress })},
		{"max_allowed_packet", []string{"pymysql"}, "integer", false, "bytes that one packet may have; the server has a bound of its own", setPacket},
		{"ssl", python(), "boolean", false, "true: only with TLS; without any ssl setting TLS is used if the server has it, and nobody is checked. For `pymysql` also an object of `ca`, `cert`, `key` and `check_hostname`", setSSL},
		{"ssl_ca", python(), "string", false, "file of the certificates to trust, PEM; the server's is checked against them", required(text(func(l *login) *string { return &l.tls.ca }))},
		{"ssl_cert", python(), "string", false, "file of the certificate to log in with, PEM", required(text(func(l *login) *string { return &l.tls.cert }))},
		{"ssl_key", python(), "string", false, "file of its key, PEM, without a password", required(text(func(l *login) *string { return &l.tls.key }))},
		{"ssl_verify_cert", python(), "boolean", false, "check the server's certificate; for `mariadb` also whether it is of `host`", func(l *login, v value) error {
			l.tls.required = l.tls.required || v.flag
			l.tls.verify, l.tls.name = v.flag, l.tls.name || v.flag && l.client == "mariadb"
			return nil
		}},
		{"ssl_verify_identity", []string{"pymysql"}, "boolean", false, "check the server's certificate and whether it is of `host`", func(l *login, v value) error {
			l.tls.required, l.tls.name = l.tls.required || v.flag, v.flag
			return nil
		}},
		{"ssl_disabled", []string{"pymysql"}, "boolean", false, "never TLS", flag(func(l *login) *bool { return &l.tls.disabled })},
	}
}

func text(to func(*login) *string) func(*login, value) error {
	return func(l *login, v value) error {
		if to := to(l); *to == "" || *to == v.text {
			*to = v.text
			return nil
		}
		return errors.New("is there twice, under two names")
	}
}

// required makes a setting of TLS also one that requires it.
func required(set func(*login, value) error) func(*login, value) error {
	return func(l *login, v value) error {
		l.tls.required = l.tls.required || v.text != ""
		return set(l, v)
	}
}

func setPort(l *login, v value) error {
	if v.number < 1 || v.number > 65535 {
		return errors.New("must be from 1 to 65535")
	}
	l.port = v.number
	return nil
}

const maxSeconds = 3600

func seconds(to func(*login) *time.Duration) func(*login, value) error {
	return func(l *login, v value) error {
		if v.number < 0 || v.number > maxSeconds {
			return fmt.Errorf("must be from 0 to %d seconds", maxSeconds)
		}
		*to(l) = time.Duration(v.number) * time.Second
		return nil
	}
}

// setTimeout takes 0 for the default, as libpq does.
func setTimeout(l *login, v value) error {
	if err := seconds(func(l *login) *time.Duration { return &l.timeout })(l, v); err != nil || v.number > 0 {
		return err
	}
	l.timeout = defaultTimeout
	return nil
}

const minPacket = 1 << 20

func setPacket(l *login, v value) error {
	if v.number < minPacket || v.number > 1<<30 {
		return fmt.Errorf("must be from %d to %d bytes", minPacket, 1<<30)
	}
	l.packet = v.number
	return nil
}

func setEncoding(_ *login, v value) error {
	switch strings.ToLower(strings.ReplaceAll(v.text, "-", "")) {
	case "utf8", "utf8mb4", "unicode":
		return nil
	}
	return errors.New("can only be utf8 (utf8mb4): other encodings lack characters")
}

// setSSL takes true, false, or the object of pymysql.
func setSSL(l *login, v value) error {
	l.tls.required = l.tls.required || v.flag
	if v.object == nil {
		return nil
	}
	if l.client != "pymysql" {
		return errors.New("must be true or false")
	}
	l.tls.name = len(v.object["ca"]) > 0
	for key, raw := range v.object {
		kind := "string"
		if key == "check_hostname" {
			kind = "boolean"
		}
		inner, err := decode(kind, raw)
		if err != nil {
			return fmt.Errorf("has %s, which must be %w", key, err)
		}
		switch key {
		case "ca":
			l.tls.ca = inner.text
		case "cert":
			l.tls.cert = inner.text
		case "key":
			l.tls.key = inner.text
		case "check_hostname":
			defer func() { l.tls.name = inner.flag }()
		default:
			return errors.New("may have ca, cert, key and check_hostname, nothing else")
		}
	}
	return nil
}
