package instance

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Gone says whether an error of a call means that the plugin or its connection is no more. Whether the process has ended
// is known a moment later, by Done.
func Gone(err error) bool {
	code := status.Code(err)
	return code == codes.Unavailable || code == codes.Canceled
}
