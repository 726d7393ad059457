// Command picosnitch-plugin-sqlite keeps picosnitch's history in a SQLite file, snitch.db, and answers queries about it.
package main

import (
	"github.com/picosnitch/picosnitch/plugins/sqlite/internal/store"
	"github.com/picosnitch/picosnitch/sdk"
)

func main() { sdk.Serve(store.New()) }
