package troupe

import (
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"math"
	"strings"
	"sync"
	"testing"
	"time"
)

// What users do that nobody planned: each has a documented result, none hangs, none crashes.

var long = strings.Repeat("x", 3000)

func TestContextEndedBeforehand(t *testing.T) {
	e := open(t, "echo:")
	ctx, cancel := context.WithCancelCause(context.Background())
	reason := errors.New("the user went home")
	cancel(reason)
	_, err := e.Generate(ctx, Request{Prompt: "x"})
	if !errors.Is(err, ErrCancelled) || !errors.Is(err, context.Canceled) || !errors.Is(err, reason) {
		t.Errorf("%v", err)
	}
	for _, err := range e.Stream(ctx, Request{Prompt: "x"}) {
		if !errors.Is(err, ErrCancelled) {
			t.Errorf("%v", err)
		}
	}
	if s, err := e.Stats(); err != nil || s.Submitted != 0 {
		t.Errorf("%+v %v", s, err)
	}
}

func TestContextEndedMidway(t *testing.T) {
	e := open(t, "echo:?step_ms=5")
	ctx, cancel := context.WithCancel(context.Background())
	deltas, last := 0, error(nil)
	for _, err := range e.Stream(ctx, Request{Prompt: long}) {
		if err != nil {
			last = err
			continue
		}
		deltas++
		cancel()
	}
	if deltas == 0 || !errors.Is(last, context.Canceled) || errors.Is(last, context.DeadlineExceeded) {
		t.Errorf("%d %v", deltas, last)
	}
	waitCancelled(t, e, 1)
	cancel() // afterwards, once more
	late, stop := context.WithDeadline(context.Background(), time.Now().Add(-time.Second))
	defer stop()
	if _, err := e.Generate(late, Request{Prompt: "x"}); !errors.Is(err, ErrDeadline) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

func TestOneStreamGoneThroughTwice(t *testing.T) {
	e := open(t, "echo:")
	stream := e.Stream(context.Background(), Request{Prompt: "again"})
	for range 2 {
		var text strings.Builder
		for delta, err := range stream {
			if err != nil {
				t.Fatal(err)
			}
			text.WriteString(delta.Text)
		}
		if text.String() != "again" {
			t.Errorf("%q", text.String())
		}
	}
}

func TestPanicInTheLoopCancels(t *testing.T) {
	e := open(t, "echo:?step_ms=5")
	func() {
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
		}()
		for range e.Stream(context.Background(), Request{Prompt: long}) {
			panic("the loop's own")
		}
	}()
	waitCancelled(t, e, 1)
}

// A handle that nobody opened is a closed one.
func TestZeroHandles(t *testing.T) {
	var engine Engine
	var session Session
	var server Server
	ctx := context.Background()
	_, generated := engine.Generate(ctx, Request{Prompt: "x"})
	_, batched := engine.Batch(ctx, []Request{{Prompt: "x"}})
	_, rendered := engine.Render(Request{Prompt: "x"})
	_, conversed := engine.NewSession(0)
	_, served := engine.Serve("tcp://127.0.0.1:*", nil)
	_, forked := session.Fork()
	_, informed := engine.Info()
	var streamed error
	for _, err := range engine.Stream(ctx, Request{Prompt: "x"}) {
		streamed = err
	}
	for i, err := range []error{generated, batched[0], rendered, conversed, served, forked, informed, streamed} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%d: %v", i, err)
		}
	}
	for i, closing := range []func() error{engine.Close, engine.Close, session.Close, server.Close} {
		if err := closing(); err != nil {
			t.Errorf("Close %d: %v", i, err)
		}
	}
}

// The loop's own goroutine closes the engine: the stream ends, and so does Close.
func TestCloseInsideTheLoop(t *testing.T) {
	engine, err := Open("echo:?step_ms=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	var last error
	for delta, err := range engine.Stream(context.Background(), Request{Prompt: strings.Repeat("x", 3000)}) {
		last = err
		if err == nil && delta.Text != "" {
			if err := engine.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	if !errors.Is(last, ErrCancelled) && !errors.Is(last, ErrClosed) {
		t.Errorf("the stream ended with %v", last)
	}
}

func TestCloseFromManyGoroutines(t *testing.T) {
	e, err := Open("echo:?step_ms=2", nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := e.NewSession(0)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range 24 {
		all.Add(1)
		go func() {
			defer all.Done()
			switch i % 4 {
			case 0:
				if err := errors.Join(e.Close(), s.Close()); err != nil {
					t.Error(err)
				}
			case 1:
				if _, err := e.Generate(context.Background(), Request{Prompt: long}); err == nil {
					t.Error("an answer after close")
				}
			case 2:
				_, _ = s.State()
				_, _ = s.Fork()
			case 3:
				_, _ = e.Stats()
				_, _ = e.Tokenize("abc", false)
			}
		}()
	}
	all.Wait()
	for _, err := range []error{
		func() error { _, err := e.Info(); return err }(), func() error { _, err := e.Stats(); return err }(),
		func() error { _, err := e.Metrics(); return err }(), func() error { _, err := s.State(); return err }(),
		func() error { _, err := e.NewSession(0); return err }(), func() error { _, err := e.Serve("tcp://127.0.0.1:*", nil); return err }(),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%v", err)
		}
	}
}

func TestPicturesOfEveryKind(t *testing.T) {
	e := open(t, "echo:")
	ask := func(i Image) string {
		t.Helper()
		r, err := e.Generate(context.Background(), Request{Images: []Image{i}})
		if err != nil {
			t.Fatal(err)
		}
		return r.Text
	}
	whole := image.NewNRGBA(image.Rect(0, 0, 6, 4))
	for i := range whole.Pix {
		whole.Pix[i] = uint8(i) | 0x80*uint8(i%4/3) // opaque enough to come back from premultiplied
	}
	for y := range 4 {
		for x := range 6 {
			c := whole.NRGBAAt(x, y)
			c.A = 255
			whole.SetNRGBA(x, y, c)
		}
	}
	want := ask(PixelImage(whole))
	if !strings.Contains(want, "6x4") {
		t.Error(want)
	}
	inside := image.NewNRGBA(image.Rect(-3, -2, 20, 20))
	draw.Draw(inside, image.Rect(5, 7, 11, 11), whole, image.Point{}, draw.Src)
	atOrigin := image.NewNRGBA(image.Rect(0, 0, 9, 9))
	draw.Draw(atOrigin, whole.Rect, whole, image.Point{}, draw.Src)
	premultiplied := image.NewRGBA(whole.Rect)
	draw.Draw(premultiplied, whole.Rect, whole, image.Point{}, draw.Src)
	for name, same := range map[string]image.Image{
		"a part":           inside.SubImage(image.Rect(5, 7, 11, 11)),
		"a part at 0, 0":   atOrigin.SubImage(whole.Rect),
		"premultiplied":    premultiplied,
		"16 bits a colour": wide(whole),
	} {
		if got := ask(PixelImage(same)); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	grey, bits := image.NewGray(whole.Rect), color.Palette{color.Black, color.White}
	for _, other := range []image.Image{grey, image.NewGray16(whole.Rect), image.NewPaletted(whole.Rect, bits),
		image.NewYCbCr(whole.Rect, image.YCbCrSubsampleRatio420), image.NewCMYK(whole.Rect), image.NewAlpha(whole.Rect)} {
		if got := ask(PixelImage(other)); !strings.Contains(got, "6x4") {
			t.Errorf("%T: %s", other, got)
		}
	}
}

// What the encoder makes of a picture stands for it.
func TestRowsOfAPictureGivenBack(t *testing.T) {
	e, err := Open("../../examples/model/lookout", &Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	picture := image.NewNRGBA(image.Rect(0, 0, 64, 48))
	for i := range picture.Pix {
		picture.Pix[i] = uint8(i * i % 251)
	}
	rows, err := e.Generate(context.Background(), Request{Images: []Image{PixelImage(picture)}, Task: "encode_image"})
	if err != nil || rows.Data == nil || len(rows.Data.Values) != rows.Data.Rows*rows.Data.Hidden {
		t.Fatalf("%+v %v", rows, err)
	}
	var answers [2]*Result
	for i, one := range []Image{PixelImage(picture), EmbeddingImage(*rows.Data)} {
		answers[i], err = e.Generate(context.Background(), Request{Parts: []Part{{Image: one}, {Text: "What is it?"}},
			Sampling: Sampling{MaxTokens: Ptr[int32](4), Temperature: Ptr[float32](0)}})
		if err != nil {
			t.Fatal(err)
		}
	}
	if answers[0].Text != answers[1].Text || answers[1].Usage.Image != int64(rows.Data.Rows) || answers[0].Data != nil {
		t.Errorf("%+v %+v", answers[0], answers[1])
	}
}

func wide(from image.Image) image.Image {
	out := image.NewNRGBA64(from.Bounds())
	draw.Draw(out, out.Rect, from, image.Point{}, draw.Src)
	return out
}

func TestPicturesThatAreNone(t *testing.T) {
	e := open(t, "echo:")
	var absent *image.NRGBA
	for name, i := range map[string]Image{
		"nothing": {}, "nil": PixelImage(nil), "a nil pointer": PixelImage(absent), "no pixels": PixelImage(image.NewNRGBA(image.Rect(0, 0, 0, 4))),
		"no bytes": EncodedImage([]byte{}), "no file": EncodedImage(nil),
		"too wide":    RawImage(Pixels{Width: 1<<32 + 6, Height: 4, Data: make([]byte, 72)}),
		"too short":   RawImage(Pixels{Width: 6, Height: 4, Data: make([]byte, 71)}),
		"wrong shape": EmbeddingImage(Embedding{Values: make([]float32, 40), Rows: 4, Hidden: 8}),
		"no rows":     EmbeddingImage(Embedding{}),
		"wraps":       EmbeddingImage(Embedding{Values: make([]float32, 8), Rows: 1<<32 + 1, Hidden: 8}),
	} {
		if _, err := e.Generate(context.Background(), Request{Images: []Image{i}}); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestValuesThatMeanSomethingElseInC(t *testing.T) {
	e := open(t, "echo:")
	nan := float32(math.NaN())
	for name, r := range map[string]Request{
		"Temperature": {Prompt: "x", Sampling: Sampling{Temperature: &nan}},
		"MaxTokens":   {Prompt: "x", Sampling: Sampling{MaxTokens: Ptr[int32](-1)}},
		"N":           {Prompt: "x", Sampling: Sampling{N: -1}},
		"NUL":         {Prompt: "x", Sampling: Sampling{Stop: []string{"a\x00b"}}},
		"has a NUL":   {Prompt: "x", Adapter: "a\x00b"},
	} {
		if _, err := e.Generate(context.Background(), r); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Open("echo:\x00", nil); !errors.Is(err, ErrInvalid) {
		t.Errorf("%v", err)
	}
	if _, err := Open("echo:", &Options{MaxSequences: -5}); !errors.Is(err, ErrInvalid) {
		t.Errorf("%v", err)
	}
	if r, err := e.Generate(context.Background(), Request{Prompt: "nul \x00 in it"}); err != nil || r.Text != "nul \x00 in it" {
		t.Errorf("%v %v", r, err)
	}
	slow := open(t, "echo:?step_ms=20")
	// time.Until of a time that is over.
	if _, err := slow.Generate(context.Background(), Request{Prompt: long, Timeout: -time.Second}); !errors.Is(err, ErrDeadline) {
		t.Errorf("%v", err)
	}
}

// The longest time there is stands for no limit at all, whatever it limits.
func TestForEver(t *testing.T) {
	const forEver = time.Duration(math.MaxInt64)
	e := open(t, "echo:")
	session, err := e.NewSession(forEver)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	if r, err := e.Generate(context.Background(), Request{Prompt: "x", Session: session, Timeout: forEver}); err != nil || r.Text != "x" {
		t.Errorf("%v", err)
	}
	server, err := e.Serve("tcp://127.0.0.1:*", &ServerOptions{ResumeWindow: forEver})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	far, err := Open(server.Endpoint(), &Options{ConnectTimeout: forEver})
	if err != nil {
		t.Fatal(err)
	}
	if err := far.Drain(forEver); err != nil {
		t.Error(err)
	}
}

// Of two who close at once the less patient one counts, and both return when it is done.
func TestCloseCutsADrainShort(t *testing.T) {
	e, err := Open("echo:?step_ms=10", nil)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 2)
	go func() {
		_, err := e.Generate(context.Background(), Request{Prompt: long})
		ended <- err
	}()
	for s, _ := e.Stats(); s.Submitted == 0; s, _ = e.Stats() {
		time.Sleep(time.Millisecond)
	}
	begun := time.Now()
	go func() { ended <- e.Drain(-1) }()
	time.Sleep(100 * time.Millisecond)
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := <-ended; err != nil && !errors.Is(err, ErrCancelled) {
			t.Error(err)
		}
	}
	if took := time.Since(begun); took > 10*time.Second { // of 30
		t.Errorf("%v", took)
	}
}

// Whatever number it is, the engine refuses it before anything is made for its choices.
func TestMoreChoicesThanThereCanBe(t *testing.T) {
	e := open(t, "echo:")
	request := Request{Prompt: "x", Sampling: Sampling{N: math.MaxInt32}}
	if _, err := e.Generate(context.Background(), request); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "1 to 128") {
		t.Errorf("%v", err)
	}
	if _, errs := e.Batch(context.Background(), []Request{request}); !errors.Is(errs[0], ErrInvalid) {
		t.Errorf("%v", errs[0])
	}
	request.Sampling = Sampling{N: 128, MaxTokens: Ptr[int32](0)} // no choice says anything
	if r, err := e.Generate(context.Background(), request); err != nil || len(r.Choices) != 128 {
		t.Errorf("%v", err)
	}
}

func TestBatchWaitsWhereTheEngineIsFull(t *testing.T) {
	e, err := Open("echo:?step_ms=1", &Options{MaxSequences: 2, MaxWaiting: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	requests := make([]Request, 60)
	for i := range requests {
		requests[i].Prompt = fmt.Sprint("p", i)
	}
	results, errs := e.Batch(context.Background(), requests)
	for i := range results {
		if errs[i] != nil || results[i].Text != fmt.Sprint("p", i) {
			t.Fatalf("%d: %v %v", i, results[i], errs[i])
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	for i := range requests {
		requests[i].Prompt = long
	}
	if _, errs = e.Batch(ctx, requests); !errors.Is(errors.Join(errs...), context.DeadlineExceeded) {
		t.Error(errs)
	}
	if results, errs := e.Batch(context.Background(), nil); len(results)+len(errs) != 0 {
		t.Error(results, errs)
	}
}

func TestSessionOfAnotherEngine(t *testing.T) {
	one, other := open(t, "echo:"), open(t, "echo:")
	s, err := one.NewSession(time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Generate(context.Background(), Request{Prompt: "x", Session: s}); !errors.Is(err, ErrInvalid) {
		t.Errorf("%v", err)
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Error(err)
	}
	if _, err := one.Generate(context.Background(), Request{Prompt: "x", Session: s}); !errors.Is(err, ErrClosed) {
		t.Errorf("%v", err)
	}
}
