package troupe

// #include <troupe.h>
import "C"

import (
	"sync"
	"time"
	"unsafe"
)

// Session is a conversation whose work is kept. Close it when done.
type Session struct {
	engine *Engine

	mu  sync.RWMutex // calls hold it to read; Close to write, before it frees
	raw *C.troupe_session
}

// SessionState is how much a session holds.
type SessionState struct {
	Tokens, CachedTokens int64
	LeaseLeft            time.Duration
}

// NewSession begins a conversation; lease 0 is the engine's default, math.MaxInt64 for ever.
func (e *Engine) NewSession(lease time.Duration) (*Session, error) {
	var options C.troupe_session_options
	C.troupe_session_options_init(&options, C.uint32_t(unsafe.Sizeof(options)))
	if lease != 0 {
		options.lease_ns = C.int64_t(lease)
	}
	s := &Session{engine: e}
	err := e.with(func() error { return takeError(C.troupe_session_new(e.raw, &options, &s.raw)) })
	if err != nil {
		return nil, err
	}
	return s, nil
}

var errSessionClosed = &Error{Code: ErrClosed.Code, Message: "the session is closed"}

// with runs f while neither the session nor its engine can be freed.
func (s *Session) with(f func() *C.troupe_error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.raw == nil {
		return errSessionClosed
	}
	return s.engine.with(func() error { return takeError(f()) })
}

// Fork gives a second conversation that goes on from here.
func (s *Session) Fork() (*Session, error) {
	fork := &Session{engine: s.engine}
	err := s.with(func() *C.troupe_error { return C.troupe_session_fork(s.raw, &fork.raw) })
	if err != nil {
		return nil, err
	}
	return fork, nil
}

// Rewind forgets all but the first tokens.
func (s *Session) Rewind(tokens int64) error {
	return s.with(func() *C.troupe_error { return C.troupe_session_rewind(s.raw, C.int64_t(tokens)) })
}

// State says what the session holds.
func (s *Session) State() (SessionState, error) {
	var raw C.troupe_session_state
	raw.struct_size = C.uint32_t(unsafe.Sizeof(raw))
	err := s.with(func() *C.troupe_error { return C.troupe_session_info(s.raw, &raw) })
	return SessionState{int64(raw.tokens), int64(raw.cached_tokens), time.Duration(raw.lease_left_ns)}, err
}

// Close ends the session; requests in it run on. Idempotent.
func (s *Session) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	C.troupe_session_free(s.raw)
	s.raw = nil
	return nil
}
