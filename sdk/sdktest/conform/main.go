// Command conform holds a plugin's binary to picosnitch's contract, in whatever language it is written:
//
//	go run ./sdk/sdktest/conform -plugin ./my-plugin -config '{"file": "out.txt"}'
//
// It needs neither root nor picosnitch. Exit status 0: it conforms, 1: it does not, and the output says in what, 2: wrong
// usage.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/picosnitch/picosnitch/sdk/sdktest"
)

func main() {
	options, run, err := parse(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "conform:", err)
		os.Exit(2)
	}
	// testing.Main is there for programs that are like `go test`: it reads flags from os.Args and exits.
	os.Args = []string{os.Args[0], "-test.v", "-test.run=" + run}
	match := func(pattern, name string) (bool, error) { return regexp.MatchString(pattern, name) }
	testing.Main(match, []testing.InternalTest{{
		Name: "conform", F: func(t *testing.T) { sdktest.Run(t, options) },
	}}, nil, nil)
}

// parse reads the command line into the suite's options and the pattern of the parts to run.
func parse(args []string) (o sdktest.Options, run string, err error) {
	flags := flag.NewFlagSet("conform", flag.ExitOnError)
	plugin := flags.String("plugin", "", "the plugin's binary or script; arguments after the options are handed to it")
	config := flags.String("config", "{}", "its settings, a JSON object")
	part := flags.String("run", "", "run only parts whose names match this regular expression")
	files := flags.String("count-files", "", "files in the plugin's directory that hold one flow a line, such as *.jsonl: checks that none is there twice or missing")
	word := flags.String("count-lines", "", "count only lines with this text")
	_ = flags.Parse(args) // exits by itself

	var object map[string]json.RawMessage
	if err := json.Unmarshal([]byte(*config), &object); err != nil {
		return o, "", fmt.Errorf("-config is not a JSON object: %w", err)
	}
	if *plugin == "" {
		return o, "", fmt.Errorf("-plugin is missing; try %s -help", filepath.Base(os.Args[0]))
	}
	path, err := filepath.Abs(*plugin)
	if err != nil {
		return o, "", fmt.Errorf("-plugin: %w", err)
	}
	o = sdktest.Options{Command: append([]string{path}, flags.Args()...), Config: *config}
	if *files != "" {
		o.Count = sdktest.CountLines(*files, *word)
	}
	run = "^conform$"
	if *part != "" {
		run += "/" + *part
	}
	return o, run, nil
}
