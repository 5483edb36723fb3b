package troupe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// open opens an echo engine that the test closes.
func open(t testing.TB, endpoint string) *Engine {
	t.Helper()
	e, err := Open(endpoint, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func TestGenerate(t *testing.T) {
	e := open(t, "echo:")
	r, err := e.Generate(context.Background(), Request{Prompt: "héllo wörld"})
	if err != nil {
		t.Fatal(err)
	}
	if r.Text != "héllo wörld" || r.FinishReason != "stop" || r.Usage.Prompt == 0 || r.Timings.Total <= 0 {
		t.Errorf("%+v", r)
	}
}

func TestStreamConcatenates(t *testing.T) {
	e := open(t, "echo:")
	var text strings.Builder
	for delta, err := range e.Stream(context.Background(), Request{Prompt: "as it comes 🎭"}) {
		if err != nil {
			t.Fatal(err)
		}
		text.WriteString(delta.Text)
	}
	if text.String() != "as it comes 🎭" {
		t.Errorf("%q", text.String())
	}
}

func TestChoicesAndLogprobs(t *testing.T) {
	e := open(t, "echo:")
	r, err := e.Generate(context.Background(), Request{Prompt: "abc", Sampling: Sampling{N: 3, Logprobs: Ptr[int32](2)}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range r.Choices {
		if c.Text != "abc" || len(c.Logprobs) != len(c.Tokens) || len(c.TopLogprobs) != len(c.Tokens) {
			t.Errorf("%+v", c)
		}
	}
}

func TestScore(t *testing.T) {
	e := open(t, "echo:")
	r, err := e.Generate(context.Background(), Request{Tokens: []int32{104, 105, 33},
		Sampling: Sampling{MaxTokens: Ptr[int32](0), PromptLogprobs: Ptr[int32](0)}})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.PromptLogprobs) != 3 || len(r.PromptLogprobs[0]) != 0 || r.PromptLogprobs[1][0].Token != 105 {
		t.Errorf("%+v", r.PromptLogprobs)
	}
}

func TestChat(t *testing.T) {
	e := open(t, "echo:")
	for _, r := range []Request{
		{Messages: []Message{{Role: System, Text: "s"}, {Role: User, Text: "hello"}}},
		{MessagesJSON: `[{"role": "user", "content": "hello"}]`},
	} {
		got, err := e.Generate(context.Background(), r)
		if err != nil || got.Text != "hello" {
			t.Errorf("%v %v", got, err)
		}
	}
}

func waitCancelled(t *testing.T, e *Engine, want uint64) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if s, err := e.Stats(); err == nil && s.Cancelled == want {
			return
		}
	}
	t.Error("the request was not cancelled")
}

func TestLeavingTheLoopCancels(t *testing.T) {
	e := open(t, "echo:?step_ms=5")
	for range e.Stream(context.Background(), Request{Prompt: strings.Repeat("x", 3000)}) {
		break
	}
	waitCancelled(t, e, 1)
}

func TestContextCancels(t *testing.T) {
	e := open(t, "echo:?step_ms=5")
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_, err := e.Generate(ctx, Request{Prompt: strings.Repeat("x", 3000)})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	waitCancelled(t, e, 1)
}

func TestErrorsHaveTheirKind(t *testing.T) {
	e := open(t, "echo:")
	_, err := e.Generate(context.Background(), Request{Prompt: "x", Sampling: Sampling{Temperature: Ptr[float32](-1)}})
	if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "temperature") {
		t.Errorf("%v", err)
	}
	if _, err := Open("/nowhere/at/all", nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("%v", err)
	}
	slow := open(t, "echo:?step_ms=20")
	_, err = slow.Generate(context.Background(), Request{Prompt: strings.Repeat("x", 3000), Timeout: 100 * time.Millisecond})
	if !errors.Is(err, ErrDeadline) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

func TestCloseIsFinalAndIdempotent(t *testing.T) {
	e, err := Open("echo:", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(e.Close(), e.Close()); err != nil {
		t.Error(err)
	}
	if _, err := e.Generate(context.Background(), Request{Prompt: "x"}); !errors.Is(err, ErrClosed) {
		t.Errorf("%v", err)
	}
}

func TestCloseWithWorkInFlight(t *testing.T) {
	e, err := Open("echo:?step_ms=5", nil)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 20 {
		all.Add(1)
		go func() {
			defer all.Done()
			if _, err := e.Generate(context.Background(), Request{Prompt: strings.Repeat("y", 3000)}); err == nil {
				t.Error("an answer after close")
			}
		}()
	}
	time.Sleep(50 * time.Millisecond)
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	all.Wait()
}

func TestThousandStreams(t *testing.T) {
	e, err := Open("echo:", &Options{MaxSequences: 1024})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	var all sync.WaitGroup
	for i := range 1000 {
		all.Add(1)
		go func() {
			defer all.Done()
			want := fmt.Sprintf("stream %d", i)
			if r, err := e.Generate(context.Background(), Request{Prompt: want}); err != nil || r.Text != want {
				t.Errorf("%v %v", r, err)
			}
		}()
	}
	all.Wait()
}

func TestBatchKeepsTheOrder(t *testing.T) {
	e := open(t, "echo:")
	var requests []Request
	for i := range 100 {
		requests = append(requests, Request{Prompt: fmt.Sprint(i)})
	}
	results, errs := e.Batch(context.Background(), requests)
	for i := range results {
		if errs[i] != nil || results[i].Text != fmt.Sprint(i) {
			t.Errorf("%d: %v %v", i, results[i], errs[i])
		}
	}
}

func TestImages(t *testing.T) {
	e := open(t, "echo:")
	picture := image.NewNRGBA(image.Rect(0, 0, 6, 4))
	picture.Set(1, 2, color.NRGBA{10, 20, 30, 255})
	var file bytes.Buffer
	if err := png.Encode(&file, picture); err != nil {
		t.Fatal(err)
	}
	for _, i := range []Image{PixelImage(picture), EncodedImage(file.Bytes()),
		EmbeddingImage(Embedding{Values: make([]float32, 40), Rows: 5, Hidden: 8})} {
		if r, err := e.Generate(context.Background(), Request{Images: []Image{i}}); err != nil || r.Text == "" {
			t.Errorf("%v %v", r, err)
		}
	}
	if r, err := e.Generate(context.Background(), Request{Images: []Image{PixelImage(picture)}}); err != nil || !strings.Contains(r.Text, "6x4") {
		t.Errorf("%v %v", r, err)
	}
	if _, err := e.Generate(context.Background(), Request{Images: []Image{{}}}); !errors.Is(err, ErrInvalid) {
		t.Errorf("%v", err)
	}
}

func TestSessionsFork(t *testing.T) {
	e := open(t, "echo:")
	s, err := e.NewSession(0)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := e.Generate(context.Background(), Request{Prompt: "first ", Session: s}); err != nil {
		t.Fatal(err)
	}
	before, _ := s.State()
	fork, err := s.Fork()
	if err != nil {
		t.Fatal(err)
	}
	defer fork.Close()
	if _, err := e.Generate(context.Background(), Request{Prompt: "second", Session: fork}); err != nil {
		t.Fatal(err)
	}
	after, _ := fork.State()
	same, _ := s.State()
	if before.Tokens == 0 || after.Tokens <= before.Tokens || same.Tokens != before.Tokens {
		t.Errorf("%v %v %v", before, after, same)
	}
}

func TestTextRoundTrip(t *testing.T) {
	e := open(t, "echo:")
	ids, err := e.Tokenize("hi", false)
	if err != nil {
		t.Fatal(err)
	}
	text, err := e.Detokenize(ids, false)
	if err != nil || text != "hi" {
		t.Errorf("%q %v", text, err)
	}
	if _, err := e.Render(Request{Messages: []Message{{Role: User, Text: "x"}}}); err != nil {
		t.Error(err)
	}
	if _, err := e.Tokenize("a\xff", false); !errors.Is(err, ErrInvalid) {
		t.Errorf("%v", err)
	}
}

func residentBytes(t *testing.T) int {
	t.Helper()
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(data))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

func TestSubmittingAndCancellingKeepsMemoryFlat(t *testing.T) {
	cycles := 4000
	if given := os.Getenv("TROUPE_TEST_CYCLES"); given != "" {
		cycles, _ = strconv.Atoi(given)
	}
	e := open(t, "echo:?step_ms=1")
	rounds := func(count int) {
		for range count / 200 {
			var all sync.WaitGroup
			for range 200 {
				all.Add(1)
				go func() {
					defer all.Done()
					for _, err := range e.Stream(context.Background(), Request{Prompt: strings.Repeat("x", 200)}) {
						if err != nil {
							t.Error(err)
						}
						break // cancels
					}
				}()
			}
			all.Wait()
			for s, _ := e.Stats(); s.Running+s.Waiting > 0; s, _ = e.Stats() {
				time.Sleep(time.Millisecond)
			}
		}
		runtime.GC()
	}
	rounds(2000)
	before := residentBytes(t)
	rounds(cycles)
	if s, err := e.Stats(); err != nil || s.Submitted != uint64(2000+cycles) || s.Cancelled == 0 {
		t.Errorf("%+v %v", s, err)
	}
	if grown := residentBytes(t) - before; grown > 16<<20 {
		t.Errorf("%d bytes more after %d cycles", grown, cycles)
	}
}

func TestNoGoroutineIsLeft(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 20 {
		e, err := Open("echo:", nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.Generate(context.Background(), Request{Prompt: "x"}); err != nil {
			t.Error(err)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<16)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
	}
}

func ExampleEngine_Generate() {
	engine, err := Open("echo:", nil)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	defer engine.Close()
	answer, err := engine.Generate(context.Background(), Request{Prompt: "Hello"})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	fmt.Println(answer.Text)
	// Output: Hello
}

func ExampleEngine_Stream() {
	engine, err := Open("echo:", nil)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	defer engine.Close()
	for delta, err := range engine.Stream(context.Background(), Request{Prompt: "one after the other"}) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return
		}
		fmt.Print(delta.Text)
	}
	// Output: one after the other
}
