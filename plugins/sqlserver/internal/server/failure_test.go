package server

import (
	"crypto/x509"
	"database/sql/driver"
	"fmt"
	"io"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"
)

func TestErrorsOfTheServersAreUnderstood(t *testing.T) {
	t.Parallel()
	postgres := func(code string) error { return &pgconn.PgError{Code: code} }
	mariadb := func(number uint16) error { return &mysql.MySQLError{Number: number} }
	for _, c := range []struct {
		err  error
		want Trouble
	}{
		{postgres("57P01"), Away}, {postgres("57014"), Away}, {postgres("53300"), Away}, {postgres("08006"), Away},
		{mariadb(1040), Away}, {mariadb(1053), Away}, {io.ErrUnexpectedEOF, Away}, {driver.ErrBadConn, Away}, {mysql.ErrInvalidConn, Away},
		{x509.UnknownAuthorityError{}, Untrusted}, {x509.HostnameError{}, Untrusted},
		{postgres("28P01"), Denied}, {postgres("28000"), Denied}, {postgres("42501"), Denied}, {postgres("3D000"), Denied},
		{mariadb(1045), Denied}, {mariadb(1142), Denied}, {mariadb(1369), Denied}, {mariadb(1698), Denied}, {mariadb(1049), Denied},
		{postgres("42P01"), NoTable}, {mariadb(1146), NoTable},
		{postgres("23514"), NoPartition}, {mariadb(1526), NoPartition},
		{postgres("23505"), Conflict}, {mariadb(1062), Conflict},
		{postgres("40001"), Again}, {postgres("40P01"), Again}, {postgres("55P03"), Again}, {mariadb(1213), Again}, {mariadb(1205), Again},
		{postgres("53100"), Full}, {mariadb(1114), Full}, {mariadb(1021), Full},
		{postgres("25006"), ReadOnly}, {mariadb(1290), ReadOnly}, {mariadb(1792), ReadOnly},
		{postgres("0A000"), Unsupported},
		{postgres("22021"), Refused}, {postgres("42703"), Refused}, {postgres(""), Refused}, {mariadb(1366), Refused}, {mariadb(1406), Refused},
		{ErrEncoding, Refused},
	} {
		if got := Classify(fmt.Errorf("insert: %w", c.err)); got != c.want {
			t.Errorf("%v: got %d, want %d", c.err, got, c.want)
		}
	}
}
