package dbserver

import "fmt"

// PostgresConfig are settings for a user of this server, if it is PostgreSQL; extra are further ones, JSON.
func (s *Server) PostgresConfig(user, password, extra string) string {
	return fmt.Sprintf(`{"client": "psycopg", "host": "localhost", "hostaddr": "127.0.0.1", "port": %d, "dbname": "picosnitch", "user": %q,
		"password": %q, "sslmode": "verify-full", "sslrootcert": %q, "connect_timeout": 5%s}`, s.Port, user, password, s.CA, extra)
}

// MariaDBConfig is the same for MariaDB.
func (s *Server) MariaDBConfig(user, password, extra string) string {
	return fmt.Sprintf(`{"client": "mariadb", "host": "localhost", "port": %d, "database": "picosnitch", "user": %q, "password": %q,
		"ssl_ca": %q, "ssl_verify_cert": true, "connect_timeout": 5%s}`, s.Port, user, password, s.CA, extra)
}

// SocketConfig are settings for the administrator, through the socket.
func (s *Server) SocketConfig(extra string) string {
	if s.Socket != "" {
		return fmt.Sprintf(`{"client": "pymysql", "unix_socket": %q, "db": "picosnitch", "user": "root"%s}`, s.Socket, extra)
	}
	return fmt.Sprintf(`{"client": "psycopg2", "host": %q, "port": %d, "database": "picosnitch", "user": "admin"%s}`, s.Sockets, s.Port, extra)
}
