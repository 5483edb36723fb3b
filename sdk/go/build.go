package troupe

// #include <stdlib.h>
// #include <troupe.h>
import "C"

import (
	"image"
	"image/draw"
	"math"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"time"
	"unsafe"
)

// builder fills a troupe_request. The first failure sticks; what is given to C is pinned, or copied
// into C's memory, until free.
type builder struct {
	raw    *C.troupe_request
	err    error
	pinner runtime.Pinner
	owned  []unsafe.Pointer
}

func build(r *Request) (*builder, error) {
	b := &builder{}
	b.do(C.troupe_request_new(&b.raw))
	b.sampling(&r.Sampling)
	for _, picture := range r.Images {
		b.image(picture)
	}
	b.prompt(r)
	b.json(r.Tools, func(p *C.char, n C.size_t) *C.troupe_error { return C.troupe_request_tools(b.raw, p, n) })
	b.json(r.Documents, func(p *C.char, n C.size_t) *C.troupe_error { return C.troupe_request_documents(b.raw, p, n) })
	b.json(r.TemplateKwargs, func(p *C.char, n C.size_t) *C.troupe_error {
		return C.troupe_request_template_kwargs(b.raw, p, n)
	})
	b.options(r)
	if c := r.Constraint; c != nil && b.err == nil {
		b.do(C.troupe_request_constraint(b.raw, C.int32_t(c.Kind), stringData(c.Text), C.size_t(len(c.Text))))
	}
	if b.err != nil {
		b.free()
		return nil, b.err
	}
	return b, nil
}

func (b *builder) free() {
	C.troupe_request_free(b.raw)
	b.raw = nil
	for _, p := range b.owned {
		C.free(p)
	}
	b.owned = nil
	b.pinner.Unpin()
}

func (b *builder) do(e *C.troupe_error) {
	err := takeError(e)
	if b.err == nil {
		b.err = err
	}
}

// cstring is a copy that ends in NUL; a NUL inside would silently cut the rest off.
func (b *builder) cstring(s string) *C.char {
	if b.err == nil && strings.IndexByte(s, 0) >= 0 {
		b.err = invalidf("%q has a NUL character", s)
	}
	p := C.CString(s)
	b.owned = append(b.owned, unsafe.Pointer(p))
	return p
}

func (b *builder) session(s *Session) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.raw == nil {
		b.err = errSessionClosed
		return
	}
	b.do(C.troupe_request_session(b.raw, s.raw))
}

func (b *builder) text(s string) {
	if b.err == nil {
		b.do(C.troupe_request_text(b.raw, stringData(s), C.size_t(len(s))))
	}
}

// stringData is a string's bytes for the length of one call.
func stringData(s string) *C.char {
	if s == "" {
		return (*C.char)(unsafe.Pointer(&empty[0]))
	}
	return (*C.char)(unsafe.Pointer(unsafe.StringData(s)))
}

var empty [1]byte

func (b *builder) json(s string, give func(*C.char, C.size_t) *C.troupe_error) {
	if b.err == nil && s != "" {
		b.do(give(stringData(s), C.size_t(len(s))))
	}
}

func (b *builder) prompt(r *Request) {
	if b.err != nil {
		return
	}
	switch {
	case r.MessagesJSON != "":
		b.do(C.troupe_request_messages(b.raw, stringData(r.MessagesJSON), C.size_t(len(r.MessagesJSON))))
	case len(r.Messages) > 0:
		for _, message := range r.Messages {
			b.do(C.troupe_request_message(b.raw, C.int32_t(message.Role)))
			for _, picture := range message.Images {
				b.image(picture)
			}
			if message.Text != "" || len(message.Parts) == 0 {
				b.text(message.Text)
			}
			b.parts(message.Parts)
		}
	case len(r.Tokens) > 0:
		b.tokens(r.Tokens)
	case len(r.Parts) > 0:
		b.parts(r.Parts)
	default:
		b.text(r.Prompt)
	}
}

func (b *builder) parts(parts []Part) {
	for _, part := range parts {
		switch {
		case !part.Image.isZero():
			b.image(part.Image)
		case len(part.Tokens) > 0:
			b.tokens(part.Tokens)
		default:
			b.text(part.Text)
		}
	}
}

func (b *builder) tokens(ids []int32) {
	if b.err == nil {
		b.do(C.troupe_request_tokens(b.raw, (*C.int32_t)(unsafe.Pointer(unsafe.SliceData(ids))), C.size_t(len(ids))))
	}
}

// longest is the latest deadline that a request can have.
const longest = 365 * 24 * time.Hour

func (b *builder) options(r *Request) {
	set := func(key, value string) {
		name, given := b.cstring(key), b.cstring(value)
		if b.err == nil {
			b.do(C.troupe_request_option(b.raw, name, given))
		}
	}
	if r.Session != nil && b.err == nil {
		b.session(r.Session)
	}
	if r.Timeout != 0 && r.Timeout <= longest {
		set("deadline_ms", strconv.FormatInt(max(1, r.Timeout.Milliseconds()), 10))
	}
	if r.Priority != 0 {
		set("priority", strconv.Itoa(r.Priority))
	}
	for _, option := range [...]struct{ key, value string }{{"adapter", r.Adapter}, {"client", r.Client}, {"task", r.Task}} {
		if option.value != "" {
			set(option.key, option.value)
		}
	}
	if r.NoSpecialTokens {
		set("add_special_tokens", "0")
	}
	if r.NoGenerationPrompt {
		set("add_generation_prompt", "0")
	}
}

func (b *builder) image(picture Image) {
	if b.err != nil {
		return
	}
	var raw C.troupe_image
	C.troupe_image_init(&raw, C.uint32_t(unsafe.Sizeof(raw)))
	switch {
	case picture.encoded != nil:
		raw.kind = C.TROUPE_IMAGE_ENCODED
		b.imageData(&raw, picture.encoded)
	case picture.pixels != nil:
		if v := reflect.ValueOf(picture.pixels); v.Kind() == reflect.Pointer && v.IsNil() {
			b.err = invalidf("PixelImage: it is a nil %T", picture.pixels)
			return
		}
		rgba := toRGBA(picture.pixels)
		raw.kind, raw.format = C.TROUPE_IMAGE_PIXELS, C.TROUPE_PIXELS_RGBA
		raw.width, raw.height = C.int32_t(rgba.Rect.Dx()), C.int32_t(rgba.Rect.Dy())
		raw.row_stride = C.int64_t(rgba.Stride)
		b.imageData(&raw, rgba.Pix)
	case picture.raw != nil:
		p := picture.raw
		raw.kind, raw.format = C.TROUPE_IMAGE_PIXELS, C.int32_t(p.Format)
		raw.width, raw.height = b.int32("Pixels.Width", p.Width), b.int32("Pixels.Height", p.Height)
		if p.Planar {
			raw.layout = C.TROUPE_LAYOUT_CHW
		}
		if p.RowStride != 0 {
			raw.row_stride = C.int64_t(p.RowStride)
		}
		b.imageData(&raw, p.Data)
	case picture.embedding != nil:
		e := picture.embedding
		rows, hidden := b.int32("Embedding.Rows", e.Rows), b.int32("Embedding.Hidden", e.Hidden)
		if rows <= 0 || hidden <= 0 || int64(len(e.Values)) != int64(rows)*int64(hidden) {
			b.err = invalidf("Embedding: %d values are not %d x %d", len(e.Values), e.Rows, e.Hidden)
			return
		}
		raw.kind, raw._type = C.TROUPE_IMAGE_EMBEDDING, C.TROUPE_TYPE_F32
		raw.rows, raw.hidden = rows, hidden
		if e.Grid != [3]int32{} {
			for i, n := range e.Grid {
				raw.grid[i] = C.int32_t(n)
			}
		}
		b.imageData(&raw, unsafe.Slice((*byte)(unsafe.Pointer(&e.Values[0])), 4*len(e.Values)))
	default:
		b.err = invalidf("Image: empty; make one with EncodedImage, PixelImage, RawImage or EmbeddingImage")
	}
}

func (b *builder) int32(field string, value int) C.int32_t {
	if b.err == nil && (value < math.MinInt32 || value > math.MaxInt32) {
		b.err = invalidf("%s is %d: it must be below 2^31", field, value)
	}
	return C.int32_t(value)
}

// imageData hands the image over; the library copies it before the call returns.
func (b *builder) imageData(raw *C.troupe_image, data []byte) {
	if len(data) > 0 {
		b.pinner.Pin(&data[0])
		raw.data = unsafe.Pointer(&data[0])
	}
	raw.size = C.size_t(len(data))
	if b.err != nil {
		return
	}
	b.do(C.troupe_request_image(b.raw, raw))
}

func toRGBA(pixels image.Image) *image.NRGBA {
	if straight, ok := pixels.(*image.NRGBA); ok && straight.Rect.Min == (image.Point{}) {
		return straight
	}
	bounds := pixels.Bounds()
	out := image.NewNRGBA(image.Rect(0, 0, bounds.Dx(), bounds.Dy()))
	draw.Draw(out, out.Rect, pixels, bounds.Min, draw.Src)
	return out
}
