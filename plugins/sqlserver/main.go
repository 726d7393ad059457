// Command picosnitch-plugin-sqlserver keeps picosnitch's history in a PostgreSQL, MariaDB or MySQL server, append-only, and
// answers queries about one host or a fleet. docs/sqlserver.md is its guide.
package main

import (
	"github.com/picosnitch/picosnitch/plugins/sqlserver/internal/store"
	"github.com/picosnitch/picosnitch/sdk"
)

func main() { sdk.Serve(store.New()) }
