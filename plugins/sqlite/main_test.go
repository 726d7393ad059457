package main

import (
	"os"
	"testing"

	"github.com/picosnitch/picosnitch/sdk/sdktest"
)

// asPlugin makes the test binary the plugin itself, so that what runs is what was compiled for the test.
const asPlugin = "SQLITE_TEST_AS_PLUGIN"

func TestMain(m *testing.M) {
	if os.Getenv(asPlugin) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestThePluginKeepsToTheContract(t *testing.T) {
	sdktest.Run(t, sdktest.Options{Command: []string{os.Args[0]}, Env: []string{asPlugin + "=1"}})
}
