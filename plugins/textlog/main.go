// Command picosnitch-plugin-textlog writes what used the network to a text file, conn.log, one line for each connection.
package main

import (
	"time"

	"github.com/picosnitch/picosnitch/plugins/textlog/internal/logfile"
	"github.com/picosnitch/picosnitch/sdk"
)

func main() { sdk.Serve(logfile.New(time.Now)) }
