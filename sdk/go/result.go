package troupe

import "strings"

// collector gathers what comes of a request into its Result. Its choices are made when the engine first says
// something, which is when it has accepted their number.
type collector struct {
	Result
	n     int
	texts []strings.Builder
}

func newResult(r *Request) *collector { return &collector{n: max(1, int(r.Sampling.N))} }

func (c *collector) begin() {
	if c.Choices == nil {
		c.Choices, c.texts = make([]Choice, c.n), make([]strings.Builder, c.n)
	}
}

func (c *collector) add(i item) {
	c.begin()
	if len(i.promptLogprobs) > 0 {
		c.PromptLogprobs = i.promptLogprobs
	}
	d, choice := i.delta, &c.Choices[i.delta.Index]
	c.texts[d.Index].WriteString(d.Text)
	choice.Text = c.texts[d.Index].String()
	choice.Tokens = append(choice.Tokens, d.Tokens...)
	choice.Logprobs = append(choice.Logprobs, d.Logprobs...)
	choice.TopLogprobs = append(choice.TopLogprobs, d.TopLogprobs...)
	if d.FinishReason != "" {
		choice.FinishReason, choice.StopText, choice.StopToken = d.FinishReason, d.StopText, d.StopToken
	}
}

func (c *collector) finish(end *ending) {
	c.begin()
	first := &c.Choices[0]
	if first.FinishReason == "" {
		first.FinishReason = end.finishReason
	}
	c.Text, c.Tokens, c.FinishReason = first.Text, first.Tokens, first.FinishReason
	c.Usage, c.Timings, c.Data = end.usage, end.timings, end.data
}
