package troupe

import (
	"image"
	"time"
)

// Role of a message.
type Role int32

// The roles of a chat.
const (
	System Role = iota
	User
	Assistant
	Tool
)

// Message is one turn of a chat: Images, then Text; or Parts, where another order matters.
type Message struct {
	Role   Role
	Text   string
	Images []Image
	Parts  []Part
}

// Part is a piece of a prompt or of a message: the one field that is set.
type Part struct {
	Text   string
	Tokens []int32
	Image  Image
}

// Image is a picture in one of its forms; make one with EncodedImage, PixelImage, RawImage or
// EmbeddingImage.
type Image struct {
	encoded   []byte
	pixels    image.Image
	raw       *Pixels
	embedding *Embedding
}

func (i Image) isZero() bool {
	return i.encoded == nil && i.pixels == nil && i.raw == nil && i.embedding == nil
}

// EncodedImage is the bytes of a JPEG, PNG or WebP file.
func EncodedImage(file []byte) Image { return Image{encoded: file} }

// PixelImage is a decoded picture.
func PixelImage(pixels image.Image) Image { return Image{pixels: pixels} }

// RawImage is pixels as they lie in memory.
func RawImage(pixels Pixels) Image { return Image{raw: &pixels} }

// Format is the order of a pixel's channels, 8 bits each.
type Format int32

// The formats of raw pixels.
const (
	RGB Format = iota
	RGBA
	BGR
	BGRA
	Grey
)

// Pixels is a picture in memory. RowStride is the bytes from one row to the next, 0 for dense rows;
// Planar is one channel after the other instead of pixel after pixel.
type Pixels struct {
	Width, Height int
	Format        Format
	Planar        bool
	RowStride     int
	Data          []byte
}

// EmbeddingImage is what the model's projector would have made of a picture.
func EmbeddingImage(e Embedding) Image { return Image{embedding: &e} }

// Embedding is Rows x Hidden float32 values, row-major. Grid is time, height and width in merged
// patches, for models that rotate by position.
type Embedding struct {
	Values       []float32
	Rows, Hidden int
	Grid         [3]int32
}

// ConstraintKind says how a constraint is written.
type ConstraintKind int32

// The kinds of constraints; OneOf is a JSON array of strings.
const (
	JSONSchema ConstraintKind = iota + 1
	Regex
	EBNF
	OneOf
)

// Constraint is what the answer must match. Engines that cannot constrain answer ErrUnsupported.
type Constraint struct {
	Kind ConstraintKind
	Text string
}

// Request is what is asked. Give one of Prompt, Tokens, Parts, Messages or MessagesJSON. The zero value of
// everything else means: as the model's generation_config.json says, else the default.
type Request struct {
	Prompt   string
	Tokens   []int32
	Parts    []Part // text, tokens and images in the order of a raw prompt
	Messages []Message
	// OpenAI's "messages" array; an image part is {"type": "image"}: the next of Images.
	MessagesJSON string
	Images       []Image // before a raw prompt, or of MessagesJSON

	Tools          string // OpenAI's "tools" array, JSON
	Documents      string // JSON
	TemplateKwargs string // JSON

	Sampling   Sampling
	Constraint *Constraint
	Session    *Session
	Priority   int
	Timeout    time.Duration // from submission; 0, or more than a year: none; below 0: the shortest, a millisecond
	Adapter    string
	Client     string // tenant: its prefixes are shared with no other
	Task       string // generate, score, embed, encode_image

	NoSpecialTokens    bool
	NoGenerationPrompt bool
}

// Sampling says how tokens are drawn. Nil pointers are "not given"; use Ptr for values.
type Sampling struct {
	Temperature, TopP, MinP                              *float32
	RepetitionPenalty, PresencePenalty, FrequencyPenalty *float32
	TopK, MaxTokens, MinTokens, Logprobs, PromptLogprobs *int32
	Seed                                                 *int64
	N                                                    int32 // 0 is 1
	IgnoreEOS, IncludeStop, KeepSpecialTokens            bool
	Stop, BadWords                                       []string
	StopTokens                                           []int32
	LogitBias                                            map[int32]float32
}

// Ptr is the address of a value: troupe.Ptr[float32](0.7).
func Ptr[T any](value T) *T { return &value }

// Logprob is a token and its log-probability under the raw distribution.
type Logprob struct {
	Token   int32
	Logprob float32
	Rank    int32
}

// Delta is more of one choice.
type Delta struct {
	Index        int
	Text         string
	Tokens       []int32
	Logprobs     []float32
	TopLogprobs  [][]Logprob
	FinishReason string // "stop" or "length" on the last delta of a choice, else ""
	StopText     string // the stop string that ended the choice
	StopToken    *int32 // the id that ended the choice
}

// Usage counts tokens.
type Usage struct{ Prompt, Cached, Completion, Image int64 }

// Timings of a request.
type Timings struct{ Queued, FirstToken, Total time.Duration }

// Choice is one whole answer.
type Choice struct {
	Text         string
	Tokens       []int32
	Logprobs     []float32
	TopLogprobs  [][]Logprob
	FinishReason string
	StopText     string
	StopToken    *int32
}

// Result is what Generate gives: the choices, of which Text, Tokens and FinishReason are the first's.
type Result struct {
	Text           string
	Tokens         []int32
	FinishReason   string
	Choices        []Choice
	PromptLogprobs [][]Logprob
	Usage          Usage
	Timings        Timings
	Data           *Embedding // of the tasks encode_image and embed; EmbeddingImage(*r.Data) gives a picture's back
}
