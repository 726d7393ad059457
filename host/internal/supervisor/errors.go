package supervisor

import (
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/picosnitch/picosnitch/host/internal/supervisor/instance"
	"github.com/picosnitch/picosnitch/sdk"
)

// said is the error of a call to a plugin, in words that are safe to show.
func said(call string, err error) error {
	return &callError{call: call, err: err}
}

// callError keeps the status of a call and shows it bounded and escaped. A configuration that the plugin does not take is
// [sdk.ErrConfig].
type callError struct {
	call string
	err  error
}

func (e *callError) Error() string {
	s := status.Convert(e.err)
	text := strings.TrimPrefix(bounded(s.Message(), 1024), e.call+": ")
	switch s.Code() {
	case codes.Unknown, codes.InvalidArgument: // an error in the plugin's own words
		return fmt.Sprintf("%s: %s", e.call, text)
	}
	return fmt.Sprintf("%s: %s: %s", e.call, s.Code(), text)
}

func (e *callError) Is(target error) bool {
	return target == sdk.ErrConfig && e.call == "configure" && status.Code(e.err) == codes.InvalidArgument
}

func (e *callError) Unwrap() error { return e.err }

// bounded makes text of a plugin safe to keep and show.
func bounded(text string, limit int) string {
	if len(text) > limit {
		text = text[:limit] + "..."
	}
	return sdk.EscapeString(text)
}

func protocolError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", instance.ErrProtocol, fmt.Sprintf(format, args...))
}
