package troupe

import "sync"

// mailbox passes items from the reader to one stream without ever blocking the reader.
type mailbox struct {
	mu    sync.Mutex
	items []item
	ready chan struct{} // holds one token while items wait
}

func newMailbox() *mailbox { return &mailbox{ready: make(chan struct{}, 1)} }

func (m *mailbox) put(i item) {
	m.mu.Lock()
	m.items = append(m.items, i)
	m.mu.Unlock()
	select {
	case m.ready <- struct{}{}:
	default:
	}
}

// take gives what waits, and whether anything did.
func (m *mailbox) take() []item {
	m.mu.Lock()
	defer m.mu.Unlock()
	items := m.items
	m.items = nil
	return items
}
