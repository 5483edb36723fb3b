package troupe

// #include <troupe.h>
import "C"

import (
	"time"
	"unsafe"
)

// Info of an engine.
type Info struct {
	Model, Family, Endpoint, Device, DType, ChatTemplateOrigin string
	ContextLength, VocabSize, MaxSequences                     int
	WeightBytes, KVBytes, KVTokens                             int64
	Capabilities                                               uint64
}

// Info says what is open.
func (e *Engine) Info() (Info, error) {
	var raw C.troupe_info
	raw.struct_size = C.uint32_t(unsafe.Sizeof(raw))
	var out Info
	err := e.with(func() error {
		if err := takeError(C.troupe_engine_info(e.raw, &raw)); err != nil {
			return err
		}
		out = Info{
			C.GoString(raw.model), C.GoString(raw.family), C.GoString(raw.endpoint), C.GoString(raw.device),
			C.GoString(raw.dtype), C.GoString(raw.chat_template_origin), int(raw.context_length),
			int(raw.vocab_size), int(raw.max_sequences), int64(raw.weight_bytes), int64(raw.kv_bytes),
			int64(raw.kv_tokens), uint64(raw.capabilities),
		}
		return nil
	})
	return out, err
}

// Stats are counters since opening, and gauges.
type Stats struct {
	Waiting, Running, Sessions                         uint32
	Submitted, Refused, Done, Cancelled, Failed        uint64
	PromptTokens, CachedTokens, CompletionTokens       uint64
	Images, Steps, Preemptions, KVBlocks, KVBlocksUsed uint64
	LastStep, Uptime                                   time.Duration
}

// Stats are cheap: ask once a second, or more.
func (e *Engine) Stats() (Stats, error) {
	var s C.troupe_stats
	s.struct_size = C.uint32_t(unsafe.Sizeof(s))
	err := e.with(func() error { return takeError(C.troupe_engine_stats(e.raw, &s)) })
	return Stats{
		uint32(s.waiting), uint32(s.running), uint32(s.sessions), uint64(s.submitted), uint64(s.refused),
		uint64(s.done), uint64(s.cancelled), uint64(s.failed), uint64(s.prompt_tokens), uint64(s.cached_tokens),
		uint64(s.completion_tokens), uint64(s.images), uint64(s.steps), uint64(s.preemptions),
		uint64(s.kv_blocks_total), uint64(s.kv_blocks_used), time.Duration(s.step_last_ns), time.Duration(s.uptime_ns),
	}, err
}

func takeBytes(b *C.troupe_bytes) []byte {
	if b == nil {
		return nil
	}
	defer C.troupe_bytes_free(b)
	return C.GoBytes(b.data, C.int(b.size))
}

// Metrics is Prometheus' text format.
func (e *Engine) Metrics() (string, error) {
	var out *C.troupe_bytes
	err := e.with(func() error { return takeError(C.troupe_engine_metrics(e.raw, &out)) })
	return string(takeBytes(out)), err
}

// Tokenize gives the ids of a text. addSpecial adds BOS and its like; special tokens that stand in the
// text are read as such.
func (e *Engine) Tokenize(text string, addSpecial bool) ([]int32, error) {
	flags := C.uint32_t(C.TROUPE_TEXT_PARSE_SPECIAL)
	if addSpecial {
		flags |= C.TROUPE_TEXT_ADD_SPECIAL
	}
	var out *C.troupe_bytes
	err := e.with(func() error {
		return takeError(C.troupe_tokenize(e.raw, stringData(text), C.size_t(len(text)), flags, &out))
	})
	if err != nil || out == nil {
		return nil, err
	}
	defer C.troupe_bytes_free(out)
	return append([]int32(nil), unsafe.Slice((*int32)(out.data), int(out.size)/4)...), nil
}

// Detokenize gives the text of ids.
func (e *Engine) Detokenize(ids []int32, skipSpecial bool) (string, error) {
	var flags C.uint32_t
	if skipSpecial {
		flags = C.TROUPE_TEXT_SKIP_SPECIAL
	}
	var out *C.troupe_bytes
	err := e.with(func() error {
		return takeError(C.troupe_detokenize(e.raw, (*C.int32_t)(unsafe.Pointer(unsafe.SliceData(ids))), C.size_t(len(ids)), flags, &out))
	})
	return string(takeBytes(out)), err
}

// Render is the prompt after the chat template.
func (e *Engine) Render(r Request) (string, error) {
	b, err := build(&r)
	if err != nil {
		return "", err
	}
	defer b.free()
	var out *C.troupe_bytes
	err = e.with(func() error { return takeError(C.troupe_render(e.raw, b.raw, &out)) })
	return string(takeBytes(out)), err
}
