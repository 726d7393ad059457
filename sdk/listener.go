package sdk

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
)

// ListenerVariable is the environment variable that tells a plugin the number of its listening socket's descriptor.
const ListenerVariable = "PICOSNITCH_LISTENER"

// ErrNoListener is the error of [Listener] for a plugin that was given none.
var ErrNoListener = errors.New("this plugin was given no listener: config.json grants one by listen")

// Listener is the TCP socket on which the host listens for this plugin, at the address that config.json gives as listen. It
// works without any network of the plugin's own. It is to be called once; the caller closes it.
func Listener() (net.Listener, error) {
	text, given := os.LookupEnv(ListenerVariable)
	if !given {
		return nil, ErrNoListener
	}
	number, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", ListenerVariable, err)
	}
	file := os.NewFile(uintptr(number), "listener")
	defer func() { _ = file.Close() }() // the listener has a copy
	l, err := net.FileListener(file)
	if err != nil {
		return nil, fmt.Errorf("take over descriptor %d: %w", number, err)
	}
	return l, nil
}
