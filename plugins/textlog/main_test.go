package main

import (
	"errors"
	"os"
	"testing"

	"github.com/picosnitch/picosnitch/sdk/sdktest"
)

// asPlugin makes the test binary the plugin itself, so that what runs is what was compiled for the test.
const asPlugin = "TEXTLOG_TEST_AS_PLUGIN"

func TestMain(m *testing.M) {
	if os.Getenv(asPlugin) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestThePluginKeepsToTheContract(t *testing.T) {
	t.Parallel()
	all, execs := sdktest.CountLines("conn.log*", ""), sdktest.CountLines("conn.log*", "/usr/bin/make-")
	flows := func(directory string) (int, error) { // executions are lines too; the suite's are all of make
		n, err := all(directory)
		without, err2 := execs(directory)
		return n - without, errors.Join(err, err2)
	}
	for name, test := range map[string]struct {
		config string
		count  func(string) (int, error)
	}{
		"text":     {`{}`, flows},
		"json":     {`{"format": "json"}`, sdktest.CountLines("conn.log*", `"kind":"flow"`)},
		"rotating": {`{"rotate": {"size_mb": 1, "keep": 1000}}`, flows},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sdktest.Run(t, sdktest.Options{
				Command: []string{os.Args[0]}, Env: []string{asPlugin + "=1"}, Config: test.config,
				Count: test.count,
			})
		})
	}
}
