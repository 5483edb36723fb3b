package troupe

// #cgo pkg-config: troupe
// #include <stdlib.h>
// #include <troupe.h>
import "C"

import (
	"context"
	"errors"
	"iter"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// Options of Open. The zero value of each field is the default.
type Options struct {
	Device, DType, KVDType, LoadFormat, ChatTemplate  string
	Threads, TensorParallel, MaxSequences, MaxWaiting int32
	MaxStepTokens, ContextLength, BlockTokens         int32
	KVBytes                                           int64
	Seed                                              *int64 // of dummy weights
	NoPrefixReuse, NoOverlap, Deterministic           bool
	Settings                                          map[string]string
	ServerKey, ClientPublicKey, ClientSecretKey       string
	ConnectTimeout                                    time.Duration // math.MaxInt64: for ever
	// Progress hears of loading: a phase and a fraction in [0, 1]. It runs on the engine's goroutine.
	Progress func(phase string, fraction float64)
}

// Engine is a model, here or elsewhere. Close it when done.
type Engine struct {
	*reader
	raw     *C.troupe_engine
	keys    atomic.Uint64
	closing sync.Once
	// calls hold it to read; Drain to write, before it frees.
	alive  sync.RWMutex
	closed bool
}

// Open opens an endpoint and returns when it serves. options may be nil.
func Open(endpoint string, options *Options) (*Engine, error) {
	if options == nil {
		options = &Options{}
	}
	e := &Engine{reader: &reader{
		progress: options.Progress, opened: make(chan error, 1), stopped: make(chan struct{}),
		boxes: map[uint64]*mailbox{},
	}}
	if err := takeError(C.troupe_queue_new(&e.queue)); err != nil {
		return nil, err
	}
	if err := e.open(endpoint, options); err != nil {
		C.troupe_queue_free(e.queue)
		return nil, err
	}
	go e.reader.run()
	if err := <-e.opened; err != nil {
		e.Close()
		return nil, err
	}
	// A guard against leaks: the reader holds no reference to the engine, so a lost one is found.
	runtime.SetFinalizer(e, func(lost *Engine) {
		if !lost.closed {
			os.Stderr.WriteString("troupe: an Engine was dropped without Close\n")
			go lost.Close()
		}
	})
	return e, nil
}

func (e *Engine) open(endpoint string, o *Options) error {
	var raw C.troupe_engine_options
	C.troupe_engine_options_init(&raw, C.uint32_t(unsafe.Sizeof(raw)))
	b := &builder{}
	defer b.free()
	text := func(to **C.char, value string) {
		if value != "" {
			*to = b.cstring(value)
		}
	}
	number := func(to *C.int32_t, value int32) {
		if value != 0 {
			*to = C.int32_t(value)
		}
	}
	text(&raw.device, o.Device)
	text(&raw.dtype, o.DType)
	text(&raw.kv_dtype, o.KVDType)
	text(&raw.load_format, o.LoadFormat)
	text(&raw.chat_template, o.ChatTemplate)
	text(&raw.server_key, o.ServerKey)
	text(&raw.client_public_key, o.ClientPublicKey)
	text(&raw.client_secret_key, o.ClientSecretKey)
	number(&raw.threads, o.Threads)
	number(&raw.tensor_parallel, o.TensorParallel)
	number(&raw.max_sequences, o.MaxSequences)
	number(&raw.max_waiting, o.MaxWaiting)
	number(&raw.max_step_tokens, o.MaxStepTokens)
	number(&raw.context_length, o.ContextLength)
	number(&raw.block_tokens, o.BlockTokens)
	if o.KVBytes != 0 {
		raw.kv_bytes = C.int64_t(o.KVBytes)
	}
	if o.Seed != nil {
		raw.seed = C.int64_t(*o.Seed)
	}
	if o.NoPrefixReuse {
		raw.prefix_reuse = 0
	}
	if o.NoOverlap {
		raw.overlap = 0
	}
	if o.Deterministic {
		raw.deterministic = 1
	}
	if o.ConnectTimeout != 0 {
		raw.connect_timeout_ns = C.int64_t(o.ConnectTimeout)
	}
	settings := settingsOf(o.Settings)
	raw.settings, raw.n_settings = b.strings(settings), C.size_t(len(settings))
	raw.queue = e.queue
	to := b.cstring(endpoint)
	if b.err != nil {
		return b.err
	}
	return takeError(C.troupe_engine_open(to, &raw, &e.raw))
}

// Close cancels what runs and frees the engine. Idempotent.
func (e *Engine) Close() error { return e.Drain(0) }

// Drain refuses new work, gives what runs so long (negative: as long as it takes), then closes. Of several at once
// on an engine of this process the least patient counts: Close ends a Drain that is going on.
func (e *Engine) Drain(patience time.Duration) error {
	err := e.with(func() error { return takeError(C.troupe_engine_close(e.raw, C.int64_t(patience))) })
	if err == errClosed { // by another, or it is a zero Engine, which Open did not make
		err = nil
	}
	e.closing.Do(func() {
		if e.raw == nil {
			return
		}
		e.alive.Lock()
		e.closed = true
		e.alive.Unlock()
		e.stop()
		C.troupe_engine_free(e.raw)
		C.troupe_queue_free(e.queue)
	})
	return err
}

func settingsOf(given map[string]string) []string {
	var settings []string
	for key, value := range given {
		settings = append(settings, key+"="+value)
	}
	return settings
}

var errClosed = &Error{Code: ErrClosed.Code, Message: "the engine is closed"}

// with runs f while the engine cannot be freed.
func (e *Engine) with(f func() error) error {
	e.alive.RLock()
	defer e.alive.RUnlock()
	if e.closed || e.raw == nil {
		return errClosed
	}
	return f()
}

// Stream gives the answer as it comes. Leaving the loop, or ctx ending, cancels the request; the last
// pair carries the error, if there is one.
func (e *Engine) Stream(ctx context.Context, r Request) iter.Seq2[Delta, error] {
	return func(yield func(Delta, error) bool) {
		end, err := e.run(ctx, &r, func(i item) bool {
			onlyPrompt := len(i.delta.Tokens) == 0 && i.delta.Text == "" && i.delta.FinishReason == ""
			return onlyPrompt || yield(i.delta, nil)
		})
		if err == nil && end != nil {
			err = end.err
		}
		if err != nil {
			yield(Delta{}, err)
		}
	}
}

// run submits and hands deltas on until the end, or until heard says no (then end and err are nil).
func (e *Engine) run(ctx context.Context, r *Request, heard func(item) bool) (*ending, error) {
	if ctx.Err() != nil {
		return nil, contextError(ctx)
	}
	id, key, box, err := e.submit(r)
	if err != nil {
		return nil, err
	}
	defer func() {
		e.forget(key)
		_ = e.with(func() error { C.troupe_cancel(e.raw, C.uint64_t(id)); return nil })
	}()
	for {
		select {
		case <-ctx.Done():
			return nil, contextError(ctx)
		case <-box.ready:
		}
		for _, i := range box.take() {
			if i.end != nil {
				if len(i.promptLogprobs) > 0 {
					heard(item{promptLogprobs: i.promptLogprobs, delta: Delta{}})
				}
				return i.end, nil
			}
			if !heard(i) {
				return nil, nil
			}
		}
	}
}

func (e *Engine) submit(r *Request) (id, key uint64, box *mailbox, err error) {
	b, err := build(r)
	if err != nil {
		return 0, 0, nil, err
	}
	defer b.free()
	key, box = e.keys.Add(1), newMailbox()
	err = e.with(func() error {
		e.expect(key, box)
		var out C.uint64_t
		failure := takeError(C.troupe_submit(e.raw, b.raw, e.queue, C.uint64_t(key), &out))
		id = uint64(out)
		return failure
	})
	if err != nil && e.reader != nil {
		e.forget(key)
	}
	return id, key, box, err
}

// Generate gives the whole answer.
func (e *Engine) Generate(ctx context.Context, r Request) (*Result, error) {
	result := newResult(&r)
	end, err := e.run(ctx, &r, func(i item) bool {
		result.add(i)
		return true
	})
	if err == nil {
		err = end.err
	}
	if err != nil {
		return nil, err
	}
	result.finish(end)
	return &result.Result, nil
}

// Batch answers many requests at once, in their order; errs[i] is nil where results[i] is an answer. Where the
// engine is full it waits for its own requests.
func (e *Engine) Batch(ctx context.Context, requests []Request) (results []*Result, errs []error) {
	const inFlight = 512
	results, errs = make([]*Result, len(requests)), make([]error, len(requests))
	room := make(chan struct{}, inFlight)
	b := &batch{ended: make(chan struct{}, inFlight)}
	var all sync.WaitGroup
	for i, r := range requests {
		room <- struct{}{}
		all.Add(1)
		go func() {
			defer func() { <-room; all.Done() }()
			results[i], errs[i] = b.generate(ctx, e, r)
		}()
	}
	all.Wait()
	return results, errs
}

// batch counts those of its requests that are with the engine, and keeps a token for each that has ended.
type batch struct {
	mu      sync.Mutex
	running int
	ended   chan struct{}
}

// generate tries again after an ErrOverloaded as long as there are others of this batch to wait for.
func (b *batch) generate(ctx context.Context, e *Engine, r Request) (*Result, error) {
	for {
		b.add(1)
		result, err := e.Generate(ctx, r)
		if left := b.add(-1); left == 0 || !errors.Is(err, ErrOverloaded) {
			select {
			case b.ended <- struct{}{}:
			default: // nobody can be waiting for so many
			}
			return result, err
		}
		select {
		case <-b.ended:
		case <-ctx.Done():
			return nil, contextError(ctx)
		}
	}
}

func (b *batch) add(n int) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.running += n
	return b.running
}
