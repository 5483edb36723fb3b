package troupe

// #include <troupe.h>
import "C"

import (
	"errors"
	"time"
	"unsafe"
)

var finishNames = map[C.int32_t]string{
	C.TROUPE_FINISH_STOP: "stop", C.TROUPE_FINISH_LENGTH: "length",
	C.TROUPE_FINISH_CANCELLED: "cancelled", C.TROUPE_FINISH_ERROR: "error",
}

// item is what the reader hands to a request's channel: a delta, and after the last one its end.
type item struct {
	delta          Delta
	promptLogprobs [][]Logprob
	end            *ending
}

type ending struct {
	err          error
	finishReason string
	usage        Usage
	timings      Timings
	data         *Embedding
}

func deltaOf(e *C.troupe_event) Delta {
	d := Delta{Index: int(e.index), FinishReason: finishNames[e.finish_reason]}
	if e.text_size > 0 {
		d.Text = C.GoStringN(e.text, C.int(e.text_size))
	}
	if n := int(e.n_tokens); n > 0 {
		d.Tokens = append([]int32(nil), unsafe.Slice((*int32)(unsafe.Pointer(e.tokens)), n)...)
		if e.logprobs != nil {
			d.Logprobs = append([]float32(nil), unsafe.Slice((*float32)(unsafe.Pointer(e.logprobs)), n)...)
		}
	}
	d.TopLogprobs = tableOf(e.top_logprobs)
	if e.finish_reason != C.TROUPE_FINISH_NONE {
		d.StopText = C.GoStringN(e.stop_text, C.int(e.stop_text_size))
		if e.stop_token >= 0 {
			d.StopToken = Ptr(int32(e.stop_token))
		}
	}
	return d
}

func endingOf(e *C.troupe_event) *ending {
	out := &ending{
		finishReason: finishNames[e.finish_reason],
		usage:        Usage{int64(e.prompt_tokens), int64(e.cached_tokens), int64(e.completion_tokens), int64(e.image_tokens)},
		timings:      Timings{time.Duration(e.queued_ns), time.Duration(e.first_token_ns), time.Duration(e.total_ns)},
	}
	if rows, columns := int(e.data_rows), int(e.data_columns); e.data != nil && rows*columns > 0 {
		values := unsafe.Slice((*float32)(unsafe.Pointer(e.data)), rows*columns)
		out.data = &Embedding{Values: append([]float32(nil), values...), Rows: rows, Hidden: columns}
	}
	if e.kind != C.TROUPE_EVENT_DONE {
		out.err = borrowedError(e.error)
		if out.err == nil {
			out.err = &Error{Code: ErrCancelled.Code, Message: "the request was cancelled"}
		}
	}
	return out
}

func tableOf(t *C.troupe_logprob_table) [][]Logprob {
	if t == nil {
		return nil
	}
	rows := make([][]Logprob, int(t.n_rows))
	starts := unsafe.Slice(t.row_starts, int(t.n_rows)+1)
	for r := range rows {
		rows[r] = make([]Logprob, 0, int(starts[r+1]-starts[r]))
		for i := starts[r]; i < starts[r+1]; i++ {
			entry := (*C.troupe_logprob)(unsafe.Add(unsafe.Pointer(t.entries), uintptr(i)*uintptr(t.entry_size)))
			rows[r] = append(rows[r], Logprob{int32(entry.token), float32(entry.logprob), int32(entry.rank)})
		}
	}
	return rows
}

// dispatch hands every event of one wait to its request. It appends to mailboxes and never blocks: a
// slow stream holds up no other.
func (r *reader) dispatch(list *C.troupe_events) {
	for i := C.uint32_t(0); i < list.count; i++ {
		at := unsafe.Add(unsafe.Pointer(list.events), uintptr(i)*uintptr(list.event_size))
		event := (*C.troupe_event)(at)
		if event.id == 0 {
			r.hearOpening(event)
			continue
		}
		box := r.mailbox(uint64(event.user_data))
		if box == nil {
			continue
		}
		switch event.kind {
		case C.TROUPE_EVENT_TOKENS:
			box.put(item{delta: deltaOf(event), promptLogprobs: tableOf(event.prompt_logprobs)})
		case C.TROUPE_EVENT_DONE, C.TROUPE_EVENT_CANCELLED, C.TROUPE_EVENT_FAILED:
			r.forget(uint64(event.user_data))
			box.put(item{end: endingOf(event), promptLogprobs: tableOf(event.prompt_logprobs)})
		}
	}
}

func (r *reader) hearOpening(event *C.troupe_event) {
	switch event.kind {
	case C.TROUPE_EVENT_PROGRESS:
		if r.progress != nil {
			r.progress(C.GoStringN(event.text, C.int(event.text_size)), float64(event.progress))
		}
	case C.TROUPE_EVENT_READY:
		r.opened <- nil
	case C.TROUPE_EVENT_FAILED:
		err := borrowedError(event.error)
		if err == nil {
			err = errors.New("troupe: the engine did not open")
		}
		r.opened <- err
	}
}
