package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"unicode"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// ErrNotRunning is wrapped by [Dial]'s error when nobody listens on the socket.
var ErrNotRunning = errors.New("picosnitch is not running")

// ErrQuestion is wrapped by the error of a call that only another question can mend: an unknown column, a bad address, a
// file of the wrong kind.
var ErrQuestion = errors.New("query")

// ErrDenied is wrapped by the error of a call that the caller has no right to.
var ErrDenied = errors.New("permission denied")

// ErrSilent is the error of a call to a daemon that took the connection, and says nothing.
var ErrSilent = errors.New("picosnitch runs, but does not answer")

// maxErrorText bounds an error's text: the columns of a store fit in.
const maxErrorText = 4096

// answerError is the error of a query as a client shall see it: with the code of a store's own and its words alone.
func answerError(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return status.Error(codes.DeadlineExceeded, "the answer took longer than "+queryTime.String())
	}
	if errors.Is(err, context.Canceled) {
		return status.Error(codes.Canceled, "given up")
	}
	code, text := codes.Unavailable, err.Error()
	if errors.Is(err, ErrQuestion) {
		code, text = codes.InvalidArgument, strings.TrimPrefix(text, ErrQuestion.Error()+": ")
	}
	var own interface{ GRPCStatus() *status.Status }
	if errors.As(err, &own) {
		code, text = own.GRPCStatus().Code(), own.GRPCStatus().Message()
	}
	return status.Error(code, printable(text))
}

// Question makes the error of a query that was answered without a daemon the one that a [Client] would give.
func Question(err error) error { return clientError("query", answerError(err)) }

// questionError is [ErrQuestion] in the words of who was asked.
type questionError struct{ text string }

func (e *questionError) Error() string        { return e.text }
func (e *questionError) Is(target error) bool { return target == ErrQuestion }

// clientError puts a call's error into words without gRPC's, and without the name of the call, which a plugin's words may
// begin with: whoever called says what was tried.
func clientError(call string, err error) error {
	if err == nil {
		return nil
	}
	s := status.Convert(err)
	text := strings.TrimPrefix(printable(s.Message()), call+": ")
	if silent(text) {
		return ErrSilent
	}
	switch s.Code() {
	case codes.InvalidArgument:
		return &questionError{text}
	case codes.PermissionDenied:
		return fmt.Errorf("%w: %s", ErrDenied, text)
	case codes.DeadlineExceeded:
		return fmt.Errorf("%w: %s", context.DeadlineExceeded, text)
	case codes.Canceled:
		return fmt.Errorf("%w: %s", context.Canceled, text)
	}
	return errors.New(text)
}

// silent knows gRPC's words for a peer that does not begin to speak, before and after gRPC lost patience.
func silent(text string) bool {
	return strings.Contains(text, " preface: ") || strings.Contains(text, " settings frame: ") || strings.HasPrefix(text, "write unix ") ||
		strings.HasSuffix(text, "while waiting for connections to become ready")
}

// printable bounds a text and takes out of it what a terminal would obey.
func printable(text string) string {
	if len(text) > maxErrorText {
		text = text[:maxErrorText] + "..."
	}
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
}

// guard turns a panic of a handler into an error and a line in the log.
type guard struct{ log *slog.Logger }

func (g guard) unary(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (_ any, err error) {
	defer g.recovered(info.FullMethod, &err)
	return handler(ctx, request)
}

func (g guard) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	defer g.recovered(info.FullMethod, &err)
	return handler(srv, stream)
}

func (g guard) recovered(method string, err *error) {
	if cause := recover(); cause != nil {
		g.log.Error("panic while answering", "method", method, "panic", printable(fmt.Sprint(cause)), "stack", string(debug.Stack()))
		*err = status.Error(codes.Internal, "the daemon made a mistake in answering this; its log says which")
	}
}
