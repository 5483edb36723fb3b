package troupe

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func serve(t *testing.T, e *Engine, options *ServerOptions) *Server {
	t.Helper()
	s, err := e.Serve("tcp://127.0.0.1:*", options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func answers(t *testing.T, e *Engine, text string) {
	t.Helper()
	if r, err := e.Generate(context.Background(), Request{Prompt: text}); err != nil || r.Text != text {
		t.Errorf("%v %v", r, err)
	}
}

func TestServing(t *testing.T) {
	near := open(t, "echo:")
	s := serve(t, near, nil)
	if !strings.HasPrefix(s.Endpoint(), "tcp://127.0.0.1:") || strings.HasSuffix(s.Endpoint(), "*") {
		t.Errorf("it listens at %q", s.Endpoint())
	}
	far := open(t, s.Endpoint())
	answers(t, far, "from near and far")
	if err := errors.Join(s.Drain(time.Second), s.Close()); err != nil {
		t.Error(err)
	}
	var failure *Error
	if _, err := far.Generate(context.Background(), Request{Prompt: "too late"}); !errors.As(err, &failure) || !failure.Retryable {
		t.Errorf("%v", err)
	}
	answers(t, near, "the engine is still open")
}

func TestServingWithKeys(t *testing.T) {
	var public, secret [3]string
	for i := range public {
		var err error
		if public[i], secret[i], err = Keygen(); err != nil || len(public[i]) != 40 || len(secret[i]) != 40 {
			t.Fatal(public[i], secret[i], err)
		}
	}
	allowed := filepath.Join(t.TempDir(), "clients")
	if err := os.WriteFile(allowed, []byte(public[1]+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := serve(t, open(t, "echo:"), &ServerOptions{PublicKey: public[0], SecretKey: secret[0], ClientKeys: allowed})
	connect := func(i int) (*Engine, error) {
		return Open(s.Endpoint(), &Options{ServerKey: public[0], ClientPublicKey: public[i], ClientSecretKey: secret[i],
			ConnectTimeout: 2 * time.Second})
	}
	friend, err := connect(1)
	if err != nil {
		t.Fatal(err)
	}
	defer friend.Close()
	answers(t, friend, "nobody else reads this")
	if stranger, err := connect(2); err == nil {
		stranger.Close()
		t.Error("a stranger came in")
	}
}

func TestServingRefusals(t *testing.T) {
	e := open(t, "echo:")
	if _, err := e.Serve("tcp://0.0.0.0:*", nil); !errors.Is(err, ErrInvalid) {
		t.Errorf("%v", err)
	}
	misspelt := &ServerOptions{Settings: map[string]string{"requets": "1"}}
	if _, err := e.Serve("tcp://127.0.0.1:*", misspelt); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "requests") {
		t.Errorf("%v", err)
	}
}
