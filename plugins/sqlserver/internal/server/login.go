package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
)

const (
	defaultTimeout = 10 * time.Second
	program        = "picosnitch"
)

// login is what the settings say.
type login struct {
	client, table             string
	host, address             string
	port                      int
	user, password, database  string
	socket                    string
	timeout                   time.Duration
	readTimeout, writeTimeout time.Duration
	compress                  bool
	packet                    int
	browse                    bool
	tls                       security
	params                    map[string]string // of PostgreSQL, as libpq names them
	secrets                   []string
}

// security is TLS for MariaDB and MySQL.
type security struct {
	required, disabled bool
	verify             bool // the chain
	name               bool // the chain, and that it is of the host
	ca, cert, key      string
}

func (l *login) dialect() Dialect {
	if strings.HasPrefix(l.client, "psycopg") {
		return PostgreSQL
	}
	return MySQL
}

// server makes a Server of the settings. It reads the files that they name and connects to nothing.
func (l *login) server() (*Server, error) {
	s := &Server{Dialect: l.dialect(), Table: l.table, Browse: l.browse, secrets: l.secrets}
	if s.Dialect == PostgreSQL {
		config, err := l.postgres()
		if err != nil {
			return nil, errors.New(s.Words(err))
		}
		s.Name = "PostgreSQL at " + net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port)))
		s.connect = func(ctx context.Context) (Session, error) {
			ctx, cancel := context.WithTimeout(ctx, l.timeout)
			defer cancel()
			return connectPostgres(ctx, config)
		}
		return s, nil
	}
	config, err := l.mysql()
	if err != nil {
		return nil, errors.New(s.Words(err))
	}
	s.Name = "MariaDB or MySQL at " + config.Addr
	s.connect = func(ctx context.Context) (Session, error) {
		ctx, cancel := context.WithTimeout(ctx, l.timeout)
		defer cancel()
		return connectMySQL(ctx, config)
	}
	return s, nil
}

// postgres hands the settings to pgx in the form that libpq has for them.
func (l *login) postgres() (*pgx.ConnConfig, error) {
	words := map[string]string{"application_name": program}
	maps.Copy(words, l.params)
	for key, value := range map[string]string{"host": l.host, "user": l.user, "dbname": l.database} {
		if value != "" {
			words[key] = value
		}
	}
	if l.port != 0 {
		words["port"] = strconv.Itoa(l.port)
	}
	if l.host == "" && l.address != "" {
		words["host"] = l.address
	}
	var text strings.Builder
	for key, value := range words {
		fmt.Fprintf(&text, "%s='%s' ", key, strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value))
	}
	config, err := pgx.ParseConfig(text.String())
	if err != nil {
		return nil, parseError(err)
	}
	if l.password != "" { // not in text, which errors show
		config.Password = l.password
	}
	config.ConnectTimeout = l.timeout
	if l.host != "" && l.address != "" {
		config.LookupFunc = func(context.Context, string) ([]string, error) { return []string{l.address}, nil }
	}
	return config, nil
}

// parseError is the cause alone: pgx's message repeats all settings before it.
func parseError(err error) error {
	text := err.Error()
	if i := strings.LastIndex(text, "`: "); i >= 0 {
		text = text[i+len("`: "):]
	}
	return fmt.Errorf("settings of PostgreSQL: %s", text)
}

func (l *login) mysql() (*mysql.Config, error) {
	c := mysql.NewConfig()
	c.User, c.Passwd, c.DBName = l.user, l.password, l.database
	c.Timeout, c.ReadTimeout, c.WriteTimeout = l.timeout, l.readTimeout, l.writeTimeout
	c.Params = sessionParams()
	c.ConnectionAttributes = "program_name:" + program
	c.Logger = &mysql.NopLogger{} // what it says comes as an error too
	if l.packet > 0 {
		c.MaxAllowedPacket = l.packet
	}
	if err := c.Apply(mysql.EnableCompression(l.compress), mysql.Charset("utf8mb4", "")); err != nil {
		return nil, fmt.Errorf("settings of MariaDB: %w", err)
	}
	host, port := l.host, l.port
	if host == "" {
		host = "localhost"
	}
	if port == 0 {
		port = 3306
	}
	c.Net, c.Addr = "tcp", net.JoinHostPort(host, strconv.Itoa(port))
	if l.socket != "" {
		c.Net, c.Addr = "unix", l.socket
	}
	var err error
	if c.TLS, err = l.tls.config(host); err != nil {
		return nil, err
	}
	// Without a word about TLS it is used where the server has it; what is not encrypted needs no certificate to be read.
	c.AllowFallbackToPlaintext = c.TLS != nil && !l.tls.required
	if l.socket != "" && !l.tls.required {
		c.TLS, c.AllowFallbackToPlaintext = nil, false
	}
	return c, nil
}

// config is the configuration of TLS, nil without it.
func (t security) config(host string) (*tls.Config, error) {
	if t.disabled {
		if t.required {
			return nil, errors.New("ssl_disabled is true beside settings that ask for TLS; remove one of them")
		}
		return nil, nil
	}
	c := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12, InsecureSkipVerify: true}
	if t.ca != "" {
		pem, err := os.ReadFile(t.ca)
		if err != nil {
			return nil, fmt.Errorf("ssl_ca: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ssl_ca: %s holds no certificate in PEM", t.ca)
		}
	}
	if (t.cert == "") != (t.key == "") {
		return nil, errors.New("ssl_cert and ssl_key are of use only together")
	}
	if t.cert != "" {
		pair, err := tls.LoadX509KeyPair(t.cert, t.key)
		if err != nil {
			return nil, fmt.Errorf("ssl_cert, ssl_key: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	switch {
	case t.name:
		c.InsecureSkipVerify = false
	case t.verify || t.ca != "":
		c.VerifyConnection = verifyChain(c.RootCAs)
	}
	return c, nil
}

// verifyChain checks a certificate without the name in it.
func verifyChain(roots *x509.CertPool) func(tls.ConnectionState) error {
	return func(state tls.ConnectionState) error {
		options := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
		for _, c := range state.PeerCertificates[1:] {
			options.Intermediates.AddCert(c)
		}
		_, err := state.PeerCertificates[0].Verify(options)
		return err
	}
}
