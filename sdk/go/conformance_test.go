package troupe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// The conformance table (sdk/conformance/README.md), over `echo:`. Unknown keys are refused by the JSON
// decoder: a typo must not pass as a case.

// What these types make impossible to write, and why.
var skipped = map[string]string{
	"threads out of bounds":        "Options.Threads of 0 is the default",
	"no choice":                    "Sampling.N of 0 is the default",
	"an unknown request option":    "options are fields",
	"a deadline that is no number": "Timeout is a time.Duration",
}

// running is a case that is under way.
type running struct {
	engine   *Engine
	sessions map[string]*Session
}

func (c *running) request(given *caseRequest, i int) (Request, error) {
	r := Request{Tokens: given.Tokens, Parts: partsOf(given.Parts), MessagesJSON: string(given.MessagesJSON),
		Tools: string(given.Tools), Sampling: given.Sampling.sampling(), Session: c.sessions[given.Session]}
	if given.Prompt != nil {
		r.Prompt = given.Prompt.at(i)
	}
	for _, m := range given.Messages {
		message, err := messageOf(m)
		if err != nil {
			return r, err
		}
		r.Messages = append(r.Messages, message)
	}
	for _, picture := range given.Images {
		r.Images = append(r.Images, picture.image())
	}
	if c := given.Constraint; c != nil {
		kinds := map[string]ConstraintKind{"json_schema": JSONSchema, "regex": Regex, "ebnf": EBNF, "choice": OneOf}
		r.Constraint = &Constraint{Kind: kinds[c.Kind], Text: c.Text}
	}
	for key, value := range given.Options {
		number, err := strconv.Atoi(value)
		switch key {
		case "task":
			r.Task, err = value, nil
		case "deadline_ms":
			r.Timeout = time.Duration(number) * time.Millisecond
		case "priority":
			r.Priority = number
		case "add_special_tokens":
			r.NoSpecialTokens = number == 0
		default:
			err = fmt.Errorf("unknown option %q", key)
		}
		if err != nil {
			return r, err
		}
	}
	return r, nil
}

func same(what string, expected, got any) error {
	if reflect.DeepEqual(expected, got) {
		return nil
	}
	return fmt.Errorf("%s: expected %.300v, got %.300v", what, expected, got)
}

func checkError(expected *caseError, err error) error {
	var failure *Error
	if !errors.As(err, &failure) {
		return fmt.Errorf("expected %+v, got %v", *expected, err)
	}
	if expected.Retryable != nil && *expected.Retryable != failure.Retryable {
		return fmt.Errorf("retryable: %v", err)
	}
	for _, part := range expected.Says {
		if !strings.Contains(failure.Message, part) {
			return fmt.Errorf("the message must say %q: %v", part, err)
		}
	}
	return same("code of "+failure.Message, expected.Code, failure.Code.String())
}

// must judges a call that has to succeed, or to fail as expected.
func must(expected *caseError, err error) error {
	if expected == nil {
		return err
	}
	return checkError(expected, err)
}

func (c *running) step(s *caseStep) error {
	switch s.Do {
	case "generate":
		return must(s.Error, c.generate(s))
	case "many", "flood":
		return c.many(s)
	case "tokenize", "detokenize", "render":
		return c.text(s)
	case "close":
		return must(s.Error, c.engine.Drain(time.Duration(s.DrainMS)*time.Millisecond))
	default:
		return c.session(s)
	}
}

func (c *running) generate(s *caseStep) error {
	request, err := c.request(&s.Request, 0)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	result := newResult(&request)
	end, err := c.engine.run(ctx, &request, func(i item) bool {
		result.add(i)
		if s.CancelAfter != nil && len(result.Choices[0].Tokens) >= *s.CancelAfter {
			cancel()
		}
		return true
	})
	if err == nil {
		err = end.err
		result.finish(end)
	}
	if errors.Is(err, context.Canceled) {
		// Go's way to cancel leaves the stream at once: the end is the context's.
		result.Choices[0].FinishReason = "cancelled"
	}
	if err != nil && s.Expect.End == "" {
		return err
	}
	return s.Expect.check(&result.Result, err, 0)
}

func (c *running) many(s *caseStep) error {
	var accepted, refused int
	var mu sync.Mutex
	var all sync.WaitGroup
	var failures []error
	for i := range s.Count {
		all.Add(1)
		go func() {
			defer all.Done()
			request, err := c.request(&s.Request, i)
			var result *Result
			if err == nil {
				result, err = c.engine.Generate(context.Background(), request)
			}
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				accepted++
				err = s.Expect.check(result, nil, i)
			case s.Refused != nil:
				refused++
				err = checkError(s.Refused, err)
			}
			failures = append(failures, err)
		}()
	}
	all.Wait()
	if accepted < s.AcceptedMin || refused < s.RefusedMin {
		failures = append(failures, fmt.Errorf("%d accepted, %d refused", accepted, refused))
	}
	return errors.Join(failures...)
}

func (c *running) text(s *caseStep) error {
	has := func(flag string) bool { return strings.Contains(strings.Join(s.Flags, " "), flag) }
	var ids []int32
	if s.Tokens != nil {
		if err := json.Unmarshal(s.Tokens, &ids); err != nil {
			return err
		}
	}
	var text string
	var err error
	switch s.Do {
	case "tokenize":
		var got []int32
		got, err = c.engine.Tokenize(string(*s.Text), has("add_special"))
		if err == nil && s.Error == nil {
			return same("tokens", fmt.Sprint(ids), fmt.Sprint(got))
		}
		return must(s.Error, err)
	case "detokenize":
		text, err = c.engine.Detokenize(ids, has("skip_special"))
	case "render":
		var request Request
		if request, err = c.request(&s.Request, 0); err == nil {
			text, err = c.engine.Render(request)
		}
	}
	if err == nil && s.Error == nil {
		return same("text", string(*s.Text), text)
	}
	return must(s.Error, err)
}

func (c *running) session(s *caseStep) error {
	held := c.sessions[s.Session]
	var tokens int64
	if s.Tokens != nil {
		if err := json.Unmarshal(s.Tokens, &tokens); err != nil {
			return err
		}
	}
	var err error
	switch s.Do {
	case "session_new":
		c.sessions[s.Session], err = c.engine.NewSession(0)
	case "session_fork":
		c.sessions[s.As], err = held.Fork()
	case "session_rewind":
		err = held.Rewind(tokens)
	case "session_free":
		err = held.Close()
	case "session_info":
		var state SessionState
		if state, err = held.State(); err == nil {
			err = same("tokens", tokens, state.Tokens)
		}
	default:
		err = fmt.Errorf("unknown step %q", s.Do)
	}
	return must(s.Error, err)
}

func (o *caseOutcome) check(result *Result, failure error, i int) error {
	end := "done"
	if errors.Is(failure, context.Canceled) {
		end = "cancelled"
	} else if failure != nil {
		end = "failed"
	}
	first := &result.Choices[0]
	var wrong []error
	if o.End != "" {
		wrong = append(wrong, same("end", o.End, end))
	}
	if o.Error != nil {
		wrong = append(wrong, checkError(o.Error, failure))
	}
	if o.Text != nil {
		wrong = append(wrong, same("text", o.Text.at(i), first.Text))
	}
	if o.TextBegins != nil && !strings.HasPrefix(o.TextBegins.at(i), first.Text) {
		wrong = append(wrong, fmt.Errorf("another text: %.300s", first.Text))
	}
	if o.Tokens != nil {
		wrong = append(wrong, same("tokens", fmt.Sprint(*o.Tokens), fmt.Sprint(first.Tokens)))
	}
	if n := len(first.Tokens); n < o.TokensMin || o.TokensMax != nil && n > *o.TokensMax {
		wrong = append(wrong, fmt.Errorf("%d tokens", n))
	}
	if o.Finish != nil {
		wrong = append(wrong, same("finish", *o.Finish, first.FinishReason))
	}
	if o.StopText != nil {
		wrong = append(wrong, same("stop_text", *o.StopText, first.StopText))
	}
	if o.StopToken != nil {
		wrong = append(wrong, same("stop_token", o.StopToken, first.StopToken))
	}
	for k, choice := range o.Choices {
		wrong = append(wrong, same("choices", choice.Text+choice.Finish, result.Choices[k].Text+result.Choices[k].FinishReason))
	}
	return errors.Join(append(wrong, o.checkCounts(result))...)
}

func (o *caseOutcome) checkCounts(result *Result) error {
	first := &result.Choices[0]
	var wrong []error
	if o.Logprobs != nil {
		wrong = append(wrong, same("logprobs", *o.Logprobs, len(first.Logprobs)))
	}
	if o.PromptLogprobs != nil {
		wrong = append(wrong, same("prompt_logprobs", *o.PromptLogprobs, len(result.PromptLogprobs)))
	}
	if o.TopLogprobs != nil {
		wrong = append(wrong, same("rows", len(first.Tokens), len(first.TopLogprobs)))
		for _, row := range first.TopLogprobs {
			wrong = append(wrong, same("top_logprobs", *o.TopLogprobs, len(row)))
		}
	}
	got := map[string]int64{"prompt_tokens": result.Usage.Prompt, "completion_tokens": result.Usage.Completion,
		"image_tokens": result.Usage.Image}
	for key, value := range o.Usage {
		if key == "cached_tokens_min" {
			if result.Usage.Cached < value {
				wrong = append(wrong, fmt.Errorf("%d cached tokens", result.Usage.Cached))
			}
			continue
		}
		wrong = append(wrong, same(key, value, got[key]))
	}
	return errors.Join(wrong...)
}

func TestConformance(t *testing.T) {
	folder := "../conformance"
	if other := os.Getenv("TROUPE_CONFORMANCE"); other != "" {
		folder = other // the same table with the endpoints of servers in it (tests/wire/with_servers.py)
	}
	paths, err := filepath.Glob(filepath.Join(folder, "*.json"))
	if err != nil || len(paths) == 0 {
		t.Fatal("no table", err)
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var table caseTable
		if err := strict(data, &table); err != nil || table.Schema != 1 {
			t.Fatal(path, err)
		}
		for _, c := range table.Cases {
			t.Run(strings.TrimSuffix(filepath.Base(path), ".json")+": "+c.Name, func(t *testing.T) {
				if why, ok := skipped[c.Name]; ok {
					t.Skip(why)
				}
				if c.Endpoint == "" {
					c.Endpoint = "echo:"
				}
				engine, err := Open(c.Endpoint, &Options{Threads: c.Options.Threads, MaxSequences: c.Options.MaxSequence, MaxWaiting: c.Options.MaxWaiting,
					ServerKey: c.Options.ServerKey, ClientPublicKey: c.Options.ClientPublicKey, ClientSecretKey: c.Options.ClientSecretKey})
				if c.OpenError != nil || err != nil {
					if err := must(c.OpenError, err); err != nil {
						t.Fatal(err)
					}
					return
				}
				defer engine.Close()
				one := &running{engine, map[string]*Session{}}
				for i := range c.Steps {
					if err := one.step(&c.Steps[i]); err != nil {
						t.Fatalf("step %d: %v", i+1, err)
					}
				}
			})
		}
	}
}
