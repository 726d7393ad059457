// Package pythonsink holds the example of a plugin in Python to the contract; the plugin is the script python-sink.
package pythonsink

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/picosnitch/picosnitch/sdk/sdktest"
)

func TestTheExampleKeepsTheContract(t *testing.T) {
	const modules = "import grpc, google.protobuf, cryptography"
	if out, err := exec.CommandContext(t.Context(), "/usr/bin/python3", "-c", modules).CombinedOutput(); err != nil {
		t.Fatalf("install python3-grpcio, python3-protobuf and python3-cryptography (test/deps.sh test): %v\n%s", err, out)
	}
	script, err := filepath.Abs("python-sink")
	if err != nil {
		t.Fatal(err)
	}
	sdktest.Run(t, sdktest.Options{Command: []string{script}, Count: sdktest.CountLines("flows.jsonl", "")})
}
