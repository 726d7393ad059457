package main

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"os"
	"testing"

	"github.com/picosnitch/picosnitch/plugins/sqlserver/internal/store"
	"github.com/picosnitch/picosnitch/sdk"
	"github.com/picosnitch/picosnitch/sdk/sdktest"
	"github.com/picosnitch/picosnitch/test/dbserver"
)

// asPlugin makes the test binary the plugin itself, so that what runs is what was compiled for the test.
const asPlugin = "SQLSERVER_TEST_AS_PLUGIN"

func TestMain(m *testing.M) {
	if os.Getenv(asPlugin) != "" {
		sdk.Serve(perDirectory{store.New()})
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// perDirectory is the plugin with tables of its own for each directory: the suite takes a new directory for a new store.
type perDirectory struct{ *store.Store }

func (p perDirectory) Configure(ctx context.Context, s sdk.Settings) error {
	var config map[string]any
	if err := json.Unmarshal(s.Config, &config); err != nil {
		return err
	}
	sum := fnv.New64()
	sum.Write([]byte(s.Directory))
	if _, ok := config["table_name"]; !ok {
		config["table_name"] = fmt.Sprintf("t%x", sum.Sum64())
	}
	var err error
	if s.Config, err = json.Marshal(config); err != nil {
		return err
	}
	return p.Store.Configure(ctx, s)
}

func TestThePluginKeepsToTheContract(t *testing.T) {
	for name, start := range map[string]func(testing.TB) *dbserver.Server{
		"PostgreSQL": dbserver.PostgreSQL, "MariaDB": dbserver.MariaDB,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := start(t)
			sdktest.Run(t, sdktest.Options{Command: []string{os.Args[0]}, Env: []string{asPlugin + "=1"}, Config: server.SocketConfig("")})
		})
	}
}
