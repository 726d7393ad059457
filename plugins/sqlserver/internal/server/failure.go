package server

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"
)

// ErrEncoding says that a database cannot hold every character.
var ErrEncoding = errors.New("the database must have the encoding UTF8")

// Trouble is what an error means for what to do next.
type Trouble int

// The kinds of trouble.
const (
	Away        Trouble = iota // no server answers, or it ended the connection
	Untrusted                  // its certificate is not one that the settings trust
	Denied                     // the server knows us and says no: password, right, database, row security
	NoTable                    // a table is missing
	NoPartition                // a partitioned table has no place for the row
	Conflict                   // the key is there already
	Again                      // deadlock or serialization: the same transaction may work now
	Full                       // no space left at the server
	ReadOnly                   // the server takes no writes now
	Unsupported                // the server lacks what the statement needs
	Refused                    // the server does not take the statement or a value
)

// Classify tells what an error of a session means.
func Classify(err error) Trouble {
	var (
		postgres *pgconn.PgError
		mariadb  *mysql.MySQLError
		stranger *tls.CertificateVerificationError
	)
	switch {
	case errors.As(err, &postgres):
		return classifyPostgres(postgres.Code)
	case errors.As(err, &mariadb):
		return classifyMySQL(mariadb.Number)
	case errors.Is(err, ErrEncoding):
		return Refused
	case errors.As(err, &stranger), isCertificate(err):
		return Untrusted
	}
	return Away
}

// isCertificate finds what a check of ours said: crypto/tls passes that on as it is.
func isCertificate(err error) bool {
	var (
		authority x509.UnknownAuthorityError
		invalid   x509.CertificateInvalidError
		name      x509.HostnameError
	)
	return errors.As(err, &authority) || errors.As(err, &invalid) || errors.As(err, &name)
}

// classifyPostgres knows SQLSTATE, see appendix A of PostgreSQL's manual.
func classifyPostgres(code string) Trouble {
	switch code {
	case "42P01":
		return NoTable
	case "23514":
		return NoPartition
	case "23505":
		return Conflict
	case "42501", "3D000", "3F000":
		return Denied
	case "25006":
		return ReadOnly
	case "55P03":
		return Again
	case "0A000":
		return Unsupported
	case "53300":
		return Away
	}
	switch class := code[:min(2, len(code))]; {
	case slices.Contains([]string{"08", "57", "58", "XX"}, class):
		return Away
	case class == "28":
		return Denied
	case class == "40":
		return Again
	case class == "53":
		return Full
	}
	return Refused
}

// classifyMySQL knows MariaDB's error codes, which MySQL shares.
func classifyMySQL(number uint16) Trouble {
	switch number {
	case 1146:
		return NoTable
	case 1526:
		return NoPartition
	case 1062:
		return Conflict
	case 1044, 1045, 1049, 1130, 1142, 1143, 1227, 1369, 1370, 1698, 3118, 4151:
		return Denied
	case 1290, 1792, 1836:
		return ReadOnly
	case 1205, 1213, 1020:
		return Again
	case 1021, 1114:
		return Full
	case 1040, 1053, 1077, 1158, 1159, 1160, 1161, 1203, 1317, 1927:
		return Away
	}
	return Refused
}
