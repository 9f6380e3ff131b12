package stratum

import "fmt"

// Error is an error that is sent to miners (docs/protocol.md, "Errors").
type Error struct {
	Code int
	Text string
}

func (e *Error) Error() string { return fmt.Sprintf("%d %s", e.Code, e.Text) }

var (
	ErrNeedSubscribed      = &Error{101, "Need Subscribed"}
	ErrDuplicateSubscribed = &Error{102, "Duplicate Subscribed"}
	ErrTooFewParams        = &Error{103, "Too Few Params"}
	ErrWorkerNotString     = &Error{104, "Worker Name Must be a String"}
	ErrEmptySubAccount     = &Error{105, "Sub-account Name Cannot be Empty"}
	ErrInvalidSubAccount   = &Error{201, "Invalid Sub-account Name"}
	ErrServerNotFound      = &Error{301, "Stratum Server Not Found"}
	ErrConnectFailed       = &Error{302, "Connect Stratum Server Failed"}

	// Every Stratum V1 pool uses these codes.
	ErrUnauthorized  = &Error{24, "Unauthorized worker"}
	ErrUnknownMethod = &Error{20, "Unknown method"}

	ErrBatch         = &Error{20, "Batches Are Not Supported"}
	ErrNotUnderstood = &Error{20, "Request Not Understood"}
	ErrTooMany       = &Error{20, "Too Many Requests"}

	// ErrStaleShare is for shares whose job ended with the pool's connection.
	ErrStaleShare = &Error{21, "Stale share"}

	ErrPoolConnectionLost = &Error{20, "Pool connection lost"}
)
