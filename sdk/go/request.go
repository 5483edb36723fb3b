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

// Message is one turn of a chat. Images stand before the text.
type Message struct {
	Role   Role
	Text   string
	Images []Image
}

// Image is a picture in one of its forms; make one with EncodedImage, PixelImage or EmbeddingImage.
type Image struct {
	encoded   []byte
	pixels    image.Image
	embedding *Embedding
}

// EncodedImage is the bytes of a JPEG, PNG or WebP file.
func EncodedImage(file []byte) Image { return Image{encoded: file} }

// PixelImage is a decoded picture.
func PixelImage(pixels image.Image) Image { return Image{pixels: pixels} }

// EmbeddingImage is what the model's projector would have made of a picture.
func EmbeddingImage(e Embedding) Image { return Image{embedding: &e} }

// Embedding is Rows x Hidden float32 values, row-major. Grid is time, height and width in merged
// patches, for models that rotate by position.
type Embedding struct {
	Values       []float32
	Rows, Hidden int
	Grid         [3]int32
}

// Request is what is asked. Give one of Prompt, Tokens, Messages or MessagesJSON. The zero value of
// everything else means: as the model's generation_config.json says, else the default.
type Request struct {
	Prompt   string
	Tokens   []int32
	Messages []Message
	// OpenAI's "messages" array; an image part is {"type": "image"}: the next of Images.
	MessagesJSON string
	Images       []Image // before a raw prompt, or of MessagesJSON

	Tools          string // OpenAI's "tools" array, JSON
	Documents      string // JSON
	TemplateKwargs string // JSON

	Sampling Sampling
	Session  *Session
	Priority int
	Timeout  time.Duration // from submission; 0: none
	Adapter  string
	Client   string // tenant: its prefixes are shared with no other
	Task     string // generate, score, embed, encode_image

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
}
