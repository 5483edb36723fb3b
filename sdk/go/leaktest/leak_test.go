package leaktest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/troupe-engine/troupe/sdk/go"
	"go.uber.org/goleak"
)

// Whatever a program does with an engine, no goroutine of the SDK is left once it is closed.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// leavesNothing is called first, so that it looks last, when the test's engines are closed.
func leavesNothing(t *testing.T) {
	t.Helper()
	t.Cleanup(func() { goleak.VerifyNone(t) })
}

func opened(t *testing.T, endpoint string) *troupe.Engine {
	t.Helper()
	engine, err := troupe.Open(endpoint, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	})
	return engine
}

var long = troupe.Request{Prompt: strings.Repeat("x", 3000)}

func TestAnswered(t *testing.T) {
	leavesNothing(t)
	engine := opened(t, "echo:")
	if r, err := engine.Generate(context.Background(), troupe.Request{Prompt: "hello"}); err != nil || r.Text != "hello" {
		t.Error(r, err)
	}
	results, errs := engine.Batch(context.Background(), make([]troupe.Request, 3))
	if len(results) != 3 || errors.Join(errs...) == nil {
		t.Error("empty prompts were answered")
	}
}

func TestStreamsLeft(t *testing.T) {
	leavesNothing(t)
	engine := opened(t, "echo:?step_ms=2")
	var all sync.WaitGroup
	for range 50 {
		all.Add(1)
		go func() {
			defer all.Done()
			for _, err := range engine.Stream(context.Background(), long) {
				if err != nil {
					t.Error(err)
				}
				break
			}
		}()
	}
	all.Wait()
}

func TestContextsEnded(t *testing.T) {
	leavesNothing(t)
	engine := opened(t, "echo:?step_ms=2")
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := engine.Generate(ctx, long); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestClosedUnderWay(t *testing.T) {
	leavesNothing(t)
	engine := opened(t, "echo:?step_ms=2")
	var all sync.WaitGroup
	for range 20 {
		all.Add(1)
		go func() {
			defer all.Done()
			if _, err := engine.Generate(context.Background(), long); err == nil {
				t.Error("an answer after close")
			}
		}()
	}
	time.Sleep(50 * time.Millisecond)
	if err := engine.Close(); err != nil {
		t.Error(err)
	}
	all.Wait()
}

func TestNotOpened(t *testing.T) {
	leavesNothing(t)
	if _, err := troupe.Open("/nowhere/at/all", nil); !errors.Is(err, troupe.ErrNotFound) {
		t.Error(err)
	}
}

func TestServed(t *testing.T) {
	leavesNothing(t)
	server, err := opened(t, "echo:").Serve("tcp://127.0.0.1:*", nil)
	if err != nil {
		t.Fatal(err)
	}
	far := opened(t, server.Endpoint())
	if _, err := far.Generate(context.Background(), troupe.Request{Prompt: "far"}); err != nil {
		t.Error(err)
	}
	if err := errors.Join(server.Close(), server.Close()); err != nil {
		t.Error(err)
	}
}
