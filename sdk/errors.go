package sdk

import "errors"

// ErrConfig marks an error of Configure that only a change of the configuration can mend.
var ErrConfig = errors.New("configuration")

// ErrQuery marks an error that only another question or file can mend: an unknown column, a bad address. Who asked is not
// shown the mark.
var ErrQuery = errors.New("query")

// ErrChain is wrapped by the errors of [Check]: the batch is not the one that was sealed.
var ErrChain = errors.New("hash chain")
