package troupe

// #include <troupe.h>
import "C"

import (
	"os"
	"runtime"
	"sync"
	"time"
	"unsafe"
)

// ServerOptions of Serve. The zero value of each field is the default: no keys, loopback alone.
type ServerOptions struct {
	AllowPlaintext       bool   // beyond loopback without keys
	PublicKey, SecretKey string // the server's pair, from Keygen
	ClientKeys           string // a file with one allowed client's public key per line; "": any client
	ResumeWindow         time.Duration
	Settings             map[string]string // limits of one client and their like: docs/protocol.md
}

// Server lets others reach an engine. Close it when done; the engine stays open.
type Server struct {
	endpoint string

	mu  sync.Mutex // a second Close waits for the first
	raw *C.troupe_server
}

// Serve binds, to "tcp://127.0.0.1:*" or ipc://path, and answers from then on. options may be nil.
func (e *Engine) Serve(bind string, options *ServerOptions) (*Server, error) {
	if options == nil {
		options = &ServerOptions{}
	}
	b := &builder{}
	defer b.free()
	var raw C.troupe_server_options
	C.troupe_server_options_init(&raw, C.uint32_t(unsafe.Sizeof(raw)))
	if options.AllowPlaintext {
		raw.allow_plaintext = 1
	}
	for to, value := range map[**C.char]string{
		&raw.public_key: options.PublicKey, &raw.secret_key: options.SecretKey, &raw.client_keys: options.ClientKeys,
	} {
		if value != "" {
			*to = b.cstring(value)
		}
	}
	if options.ResumeWindow != 0 {
		raw.resume_window_ns = C.int64_t(options.ResumeWindow)
	}
	settings := settingsOf(options.Settings)
	raw.settings, raw.n_settings = b.strings(settings), C.size_t(len(settings))
	to := b.cstring(bind)
	if b.err != nil {
		return nil, b.err
	}
	s := &Server{}
	err := e.with(func() error { return takeError(C.troupe_server_open(e.raw, to, &raw, &s.raw)) })
	if err != nil {
		return nil, err
	}
	s.endpoint = C.GoString(C.troupe_server_endpoint(s.raw))
	runtime.SetFinalizer(s, func(lost *Server) {
		if lost.raw != nil {
			os.Stderr.WriteString("troupe: a Server was dropped without Close\n")
			go lost.Close()
		}
	})
	return s, nil
}

// Endpoint is where it listens, with the port that was chosen: what Open takes elsewhere.
func (s *Server) Endpoint() string { return s.endpoint }

// Close says goodbye to every client and cancels what runs. Idempotent.
func (s *Server) Close() error { return s.Drain(0) }

// Drain takes nothing new, gives what runs so long (negative: as long as it takes), then closes.
func (s *Server) Drain(patience time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.raw == nil {
		return nil
	}
	err := takeError(C.troupe_server_close(s.raw, C.int64_t(patience)))
	C.troupe_server_free(s.raw)
	s.raw = nil
	return err
}

// Keygen makes a new CURVE pair in Z85, for a server or for one client.
func Keygen() (public, secret string, err error) {
	var keys [2][C.TROUPE_KEY_SIZE]C.char
	err = takeError(C.troupe_keygen(&keys[0][0], &keys[1][0]))
	return C.GoString(&keys[0][0]), C.GoString(&keys[1][0]), err
}
