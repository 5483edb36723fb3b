package troupe

// #include <stdlib.h>
// #include <troupe.h>
import "C"

import (
	"math"
	"unsafe"
)

func (b *builder) sampling(s *Sampling) {
	if b.err != nil {
		return
	}
	var raw C.troupe_sampling
	C.troupe_sampling_init(&raw, C.uint32_t(unsafe.Sizeof(raw)))
	b.floats(&raw, s)
	b.counts(&raw, s)
	flags(&raw, s)
	raw.stop, raw.n_stop = b.strings(s.Stop), C.size_t(len(s.Stop))
	raw.bad_words, raw.n_bad_words = b.strings(s.BadWords), C.size_t(len(s.BadWords))
	if len(s.StopTokens) > 0 {
		b.pinner.Pin(&s.StopTokens[0])
		raw.stop_tokens = (*C.int32_t)(unsafe.Pointer(&s.StopTokens[0]))
		raw.n_stop_tokens = C.size_t(len(s.StopTokens))
	}
	b.bias(&raw, s.LogitBias)
	if b.err != nil {
		return
	}
	b.do(C.troupe_request_sampling(b.raw, &raw))
}

// floats refuses NaN, which would mean "not given" in the library; it judges all the rest itself.
func (b *builder) floats(raw *C.troupe_sampling, s *Sampling) {
	for _, field := range [...]struct {
		name string
		to   *C.float
		from *float32
	}{
		{"Temperature", &raw.temperature, s.Temperature}, {"TopP", &raw.top_p, s.TopP}, {"MinP", &raw.min_p, s.MinP},
		{"RepetitionPenalty", &raw.repetition_penalty, s.RepetitionPenalty},
		{"PresencePenalty", &raw.presence_penalty, s.PresencePenalty},
		{"FrequencyPenalty", &raw.frequency_penalty, s.FrequencyPenalty},
	} {
		if field.from == nil {
			continue
		}
		if math.IsNaN(float64(*field.from)) {
			b.err = invalidf("Sampling.%s is NaN: nil is for the default", field.name)
		}
		*field.to = C.float(*field.from)
	}
}

// counts likewise refuses -1.
func (b *builder) counts(raw *C.troupe_sampling, s *Sampling) {
	for _, field := range [...]struct {
		name string
		to   *C.int32_t
		from *int32
	}{
		{"TopK", &raw.top_k, s.TopK}, {"MaxTokens", &raw.max_tokens, s.MaxTokens},
		{"MinTokens", &raw.min_tokens, s.MinTokens}, {"Logprobs", &raw.logprobs, s.Logprobs},
		{"PromptLogprobs", &raw.prompt_logprobs, s.PromptLogprobs},
	} {
		if field.from == nil {
			continue
		}
		if *field.from == -1 {
			b.err = invalidf("Sampling.%s is -1: nil is for the default", field.name)
		}
		*field.to = C.int32_t(*field.from)
	}
	if s.Seed != nil {
		raw.seed = C.int64_t(*s.Seed)
	}
	if s.N < 0 {
		b.err = invalidf("Sampling.N is %d: it must be 1 or more", s.N)
	} else if s.N > 0 {
		raw.n = C.int32_t(s.N)
	}
}

func flags(raw *C.troupe_sampling, s *Sampling) {
	for _, flag := range [...]struct {
		to    *C.int32_t
		given bool
		value C.int32_t
	}{{&raw.ignore_eos, s.IgnoreEOS, 1}, {&raw.include_stop, s.IncludeStop, 1}, {&raw.skip_special_tokens, s.KeepSpecialTokens, 0}} {
		if flag.given {
			*flag.to = flag.value
		}
	}
}

func (b *builder) strings(list []string) **C.char {
	if len(list) == 0 {
		return nil
	}
	array := C.malloc(C.size_t(len(list)) * C.size_t(unsafe.Sizeof(uintptr(0))))
	b.owned = append(b.owned, array)
	for i, s := range list {
		unsafe.Slice((**C.char)(array), len(list))[i] = b.cstring(s)
	}
	return (**C.char)(array)
}

func (b *builder) bias(raw *C.troupe_sampling, biases map[int32]float32) {
	if len(biases) == 0 {
		return
	}
	tokens, values := make([]int32, 0, len(biases)), make([]float32, 0, len(biases))
	for token, value := range biases {
		tokens, values = append(tokens, token), append(values, value)
	}
	b.pinner.Pin(&tokens[0])
	b.pinner.Pin(&values[0])
	raw.bias_tokens = (*C.int32_t)(unsafe.Pointer(&tokens[0]))
	raw.bias_values = (*C.float)(unsafe.Pointer(&values[0]))
	raw.n_bias = C.size_t(len(biases))
}
