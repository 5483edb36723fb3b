package troupe

// #include <troupe.h>
import "C"

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// reader is an engine's one goroutine: it waits on the queue and hands each event to its request.
type reader struct {
	queue    *C.troupe_queue
	progress func(string, float64)
	opened   chan error
	stopping atomic.Bool
	stopped  chan struct{} // closed when run has returned

	mu    sync.Mutex
	boxes map[uint64]*mailbox
}

func (r *reader) run() {
	defer close(r.stopped)
	for {
		stopping := r.stopping.Load()
		timeout := C.int64_t(-1)
		if stopping {
			timeout = 0
		}
		var list *C.troupe_events
		if err := takeError(C.troupe_queue_wait(r.queue, timeout, 0, &list)); err != nil {
			r.fail(err)
			return
		}
		if list == nil && stopping {
			return
		}
		if list != nil {
			r.dispatch(list)
			C.troupe_events_free(list)
			// Let the streams have what came before this thread sleeps in C: else each of them is
			// woken on another one.
			runtime.Gosched()
		}
	}
}

// fail ends every stream: nothing will come any more.
func (r *reader) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, box := range r.boxes {
		delete(r.boxes, key)
		box.put(item{end: &ending{err: err, finishReason: "error"}})
	}
	select {
	case r.opened <- err:
	default:
	}
}

// stop returns when everything pending was handed on. The engine is closed by now: every terminal
// event is in the queue.
func (r *reader) stop() {
	r.stopping.Store(true)
	C.troupe_queue_wake(r.queue)
	<-r.stopped
}

func (r *reader) expect(key uint64, box *mailbox) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.boxes[key] = box
}

func (r *reader) mailbox(key uint64) *mailbox {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.boxes[key]
}

func (r *reader) forget(key uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.boxes, key)
}
