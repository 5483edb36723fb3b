package troupe

// #include <troupe.h>
import "C"

import (
	"context"
	"errors"
	"fmt"
)

// Error is a failure with one of the frozen codes. errors.Is finds the sentinels below, and
// context.Canceled and context.DeadlineExceeded where they mean the same.
type Error struct {
	Code      Code
	Message   string
	Retryable bool

	cause error // of an ended context: what context.Cause says
}

// Code is an error code, shared by the C ABI, the wire protocol and every SDK.
type Code int32

// String is the code's name: "INVALID", "OVERLOADED" ...
func (c Code) String() string { return C.GoString(C.troupe_error_name(C.int32_t(c))) }

func (e *Error) Error() string { return fmt.Sprintf("troupe: %v: %s", e.Code, e.Message) }

// Unwrap gives the cause of the context that ended, if one did.
func (e *Error) Unwrap() error { return e.cause }

// contextError is what a request answers whose context ended: ErrCancelled or ErrDeadline, and ctx.Err().
func contextError(ctx context.Context) error {
	code := ErrCancelled.Code
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		code = ErrDeadline.Code
	}
	cause := context.Cause(ctx)
	return &Error{Code: code, Message: "the context ended: " + cause.Error(), cause: cause}
}

func invalidf(format string, values ...any) error {
	return &Error{Code: ErrInvalid.Code, Message: fmt.Sprintf(format, values...)}
}

// Is reports whether target is the sentinel of this error's kind.
func (e *Error) Is(target error) bool {
	if sentinel, ok := target.(*Error); ok {
		return sentinel.Message == "" && sentinel.Code == e.Code
	}
	switch e.Code {
	case ErrCancelled.Code:
		return target == context.Canceled
	case ErrDeadline.Code:
		return target == context.DeadlineExceeded
	}
	return false
}

// Sentinels for errors.Is.
var (
	ErrInvalid        = &Error{Code: C.TROUPE_ERROR_INVALID}
	ErrLimit          = &Error{Code: C.TROUPE_ERROR_LIMIT}
	ErrOverloaded     = &Error{Code: C.TROUPE_ERROR_OVERLOADED}
	ErrDeadline       = &Error{Code: C.TROUPE_ERROR_DEADLINE}
	ErrCancelled      = &Error{Code: C.TROUPE_ERROR_CANCELLED}
	ErrNotFound       = &Error{Code: C.TROUPE_ERROR_NOT_FOUND}
	ErrUnsupported    = &Error{Code: C.TROUPE_ERROR_UNSUPPORTED}
	ErrCorruptModel   = &Error{Code: C.TROUPE_ERROR_CORRUPT_MODEL}
	ErrOutOfMemory    = &Error{Code: C.TROUPE_ERROR_OUT_OF_MEMORY}
	ErrDeviceFailed   = &Error{Code: C.TROUPE_ERROR_DEVICE_FAILED}
	ErrConnectionLost = &Error{Code: C.TROUPE_ERROR_CONNECTION_LOST}
	ErrClosed         = &Error{Code: C.TROUPE_ERROR_CLOSED}
	ErrForked         = &Error{Code: C.TROUPE_ERROR_FORKED}
	ErrUnauthorised   = &Error{Code: C.TROUPE_ERROR_UNAUTHORISED}
	ErrInternal       = &Error{Code: C.TROUPE_ERROR_INTERNAL}
)

// borrowedError makes an error of one that stays the library's.
func borrowedError(e *C.troupe_error) error {
	if e == nil {
		return nil
	}
	return &Error{
		Code:      Code(C.troupe_error_code(e)),
		Message:   C.GoString(C.troupe_error_message(e)),
		Retryable: C.troupe_error_retryable(e) != 0,
	}
}

// takeError makes an error of one that a call returned, and frees it.
func takeError(e *C.troupe_error) error {
	err := borrowedError(e)
	C.troupe_error_free(e)
	return err
}
