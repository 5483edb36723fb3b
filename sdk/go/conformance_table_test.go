package troupe

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"strconv"
	"strings"
)

// What stands in the conformance table, and what it becomes in this language.

type caseTable struct {
	Schema int
	About  string
	Cases  []struct {
		Name, Endpoint string
		Local          string // why it is not run over the wire
		Options        struct {
			Threads         int32
			MaxSequence     int32  `json:"max_sequences"`
			MaxWaiting      int32  `json:"max_waiting"`
			ServerKey       string `json:"server_key"`
			ClientPublicKey string `json:"client_public_key"`
			ClientSecretKey string `json:"client_secret_key"`
		}
		OpenError *caseError `json:"open_error"`
		Steps     []caseStep
	}
}

type caseError struct {
	Code      string
	Says      []string
	Retryable *bool
}

type caseStep struct {
	Do          string
	Error       *caseError
	Request     caseRequest
	Expect      caseOutcome
	CancelAfter *int `json:"cancel_after"`
	Count       int
	Refused     *caseError
	AcceptedMin int `json:"accepted_min"`
	RefusedMin  int `json:"refused_min"`
	Text        *caseText
	Tokens      json.RawMessage // ids, or how many tokens a session holds
	Flags       []string
	Session, As string
	DrainMS     int `json:"drain_ms"`
}

type caseRequest struct {
	Prompt       *caseText
	Tokens       []int32
	Parts        []casePart
	Messages     []caseMessage
	MessagesJSON json.RawMessage `json:"messages_json"`
	Images       []caseImage
	Tools        json.RawMessage
	Sampling     caseSampling
	Options      map[string]string
	Constraint   *struct{ Kind, Text string }
	Session      string
}

type casePart struct {
	Text   *caseText
	Tokens []int32
	Image  *caseImage
}

type caseMessage struct {
	Role    string
	Content json.RawMessage // a string, or parts
}

type caseImage struct {
	Kind, Base64, Format, Layout, Type string
	Width, Height, Rows, Hidden        int
	RowStride                          int `json:"row_stride"`
}

type caseSampling struct {
	Temperature       *float32
	TopP              *float32 `json:"top_p"`
	MinP              *float32 `json:"min_p"`
	TopK              *int32   `json:"top_k"`
	RepetitionPenalty *float32 `json:"repetition_penalty"`
	PresencePenalty   *float32 `json:"presence_penalty"`
	FrequencyPenalty  *float32 `json:"frequency_penalty"`
	Seed              *int64
	MaxTokens         *int32 `json:"max_tokens"`
	MinTokens         *int32 `json:"min_tokens"`
	N                 int32
	Logprobs          *int32
	IncludeStop       int `json:"include_stop"`
	Stop              []string
	StopTokens        []int32 `json:"stop_tokens"`
	Bias              [][2]float64
}

type caseOutcome struct {
	End            string
	Error          *caseError
	Text           *caseText
	TextBegins     *caseText `json:"text_begins"`
	Tokens         *[]int32
	TokensMin      int  `json:"tokens_min"`
	TokensMax      *int `json:"tokens_max"`
	Finish         *string
	StopText       *string `json:"stop_text"`
	StopToken      *int32  `json:"stop_token"`
	Choices        []struct{ Text, Finish string }
	Usage          map[string]int64
	Logprobs       *int
	TopLogprobs    *int `json:"top_logprobs"`
	PromptLogprobs *int `json:"prompt_logprobs"`
}

// caseText is a string, or {"repeat": ["abc", 3]}.
type caseText string

func (t *caseText) UnmarshalJSON(data []byte) error {
	var repeat struct{ Repeat []any }
	if data[0] != '{' {
		return json.Unmarshal(data, (*string)(t))
	}
	err := json.Unmarshal(data, &repeat)
	*t = caseText(strings.Repeat(repeat.Repeat[0].(string), int(repeat.Repeat[1].(float64))))
	return err
}

func (t *caseText) at(i int) string { return strings.ReplaceAll(string(*t), "{i}", strconv.Itoa(i)) }

func strict(data []byte, into any) error {
	decoder := json.NewDecoder(strings.NewReader(string(data)))
	decoder.DisallowUnknownFields()
	return decoder.Decode(into)
}

func (i *caseImage) image() Image {
	data, err := base64.StdEncoding.DecodeString(i.Base64)
	if err != nil {
		panic(err)
	}
	switch i.Kind {
	case "encoded":
		return EncodedImage(data)
	case "pixels":
		return RawImage(Pixels{Width: i.Width, Height: i.Height, Planar: i.Layout == "chw", RowStride: i.RowStride, Data: data})
	default:
		values := make([]float32, len(data)/4)
		for k := range values {
			bits := uint32(data[4*k]) | uint32(data[4*k+1])<<8 | uint32(data[4*k+2])<<16 | uint32(data[4*k+3])<<24
			values[k] = math.Float32frombits(bits)
		}
		return EmbeddingImage(Embedding{Values: values, Rows: i.Rows, Hidden: i.Hidden})
	}
}

func partsOf(given []casePart) []Part {
	var parts []Part
	for _, p := range given {
		switch {
		case p.Image != nil:
			parts = append(parts, Part{Image: p.Image.image()})
		case p.Tokens != nil:
			parts = append(parts, Part{Tokens: p.Tokens})
		default:
			parts = append(parts, Part{Text: string(*p.Text)})
		}
	}
	return parts
}

func messageOf(given caseMessage) (Message, error) {
	m := Message{Role: map[string]Role{"system": System, "user": User, "assistant": Assistant, "tool": Tool}[given.Role]}
	if given.Content[0] != '[' {
		return m, json.Unmarshal(given.Content, &m.Text)
	}
	var parts []casePart
	err := strict(given.Content, &parts)
	m.Parts = partsOf(parts)
	return m, err
}

func (s *caseSampling) sampling() Sampling {
	bias := map[int32]float32{}
	for _, pair := range s.Bias {
		bias[int32(pair[0])] = float32(pair[1])
	}
	return Sampling{Temperature: s.Temperature, TopP: s.TopP, MinP: s.MinP, TopK: s.TopK,
		RepetitionPenalty: s.RepetitionPenalty, PresencePenalty: s.PresencePenalty, FrequencyPenalty: s.FrequencyPenalty,
		Seed: s.Seed, MaxTokens: s.MaxTokens, MinTokens: s.MinTokens, N: s.N,
		Logprobs: s.Logprobs, IncludeStop: s.IncludeStop == 1, Stop: s.Stop, StopTokens: s.StopTokens, LogitBias: bias}
}
