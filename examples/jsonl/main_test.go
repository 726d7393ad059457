package main

import (
	"os"
	"testing"

	"github.com/picosnitch/picosnitch/sdk/sdktest"
)

// asPlugin makes the test binary the plugin itself.
const asPlugin = "JSONL_TEST_AS_PLUGIN"

func TestMain(m *testing.M) {
	if os.Getenv(asPlugin) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestTheExampleKeepsTheContract(t *testing.T) {
	sdktest.Run(t, sdktest.Options{
		Command: []string{os.Args[0]}, Env: []string{asPlugin + "=1"}, Config: `{"gaps": false}`,
		Count: sdktest.CountLines("records.jsonl", `{"kind":"flow"`),
	})
}
