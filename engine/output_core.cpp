#include "engine/output_core.hpp"

#include <algorithm>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>

#include "text/stop.hpp"

namespace troupe::engine {
namespace {

constexpr size_t kNoEvent = static_cast<size_t>(-1);

struct Choice {
  std::unique_ptr<TextStream> stream;
  std::optional<text::StopMatcher> stops;  // none: no stop strings
  int64_t tokens = 0;                      // delivered
  FinishReason finish = FinishReason::none;
  int32_t stop_token = -1;
  std::string stop_text;
  // Of the batch being taken:
  size_t event = kNoEvent;     // its tokens event
  int32_t last_index = -1;     // its last token …
  int32_t ending_token = -1;   // … which is this one, if a stop token ends it
};

struct Live {
  OutputSpec spec;
  std::vector<Choice> choices;
  LogprobTable prompt_table;
  bool spoke = false;  // an event has gone out
};

void append_tops(const Outputs& outputs, uint32_t begin, uint32_t count,
                 std::vector<TokenLogprob>& row) {
  for (uint32_t i = 0; i < count; ++i) {
    const StepTop& top = outputs.tops[begin + i];
    row.push_back({top.token, top.logprob, static_cast<int32_t>(i) + 1});
  }
}

}  // namespace

struct OutputCore::State {
  explicit State(const TextSource& t) : text(t) {}

  Live* find(RequestId id) {
    const auto it = live.find(id);
    return it == live.end() ? nullptr : &it->second;
  }
  static Choice* choice_of(Live& l, int32_t index) {
    const auto i = static_cast<size_t>(index);
    return i < l.choices.size() && l.choices[i].finish == FinishReason::none ? &l.choices[i] : nullptr;
  }
  Event& event_of(Live& l, int32_t index, std::vector<Event>& events);
  void look_ahead(const Outputs& outputs);
  void take_score(const Outputs& outputs, const ScoreOutput& score);
  void take_token(const Outputs& outputs, const TokenOutput& token, std::vector<Event>& events,
                  std::vector<Cut>& cuts);
  void say(Live& l, int32_t index, std::string_view fresh, std::vector<Event>& events,
           std::vector<Cut>& cuts);
  void flush(Live& l, int32_t index, std::vector<Event>& events, std::vector<Cut>& cuts);
  void finish(Live& l, int32_t index, FinishReason reason, std::vector<Event>& events);
  void end(const RequestEnd& end, std::vector<Event>& events, std::vector<Cut>& cuts);

  const TextSource& text;
  std::unordered_map<RequestId, Live> live;
  std::string fresh;  // what one token added
};

OutputCore::OutputCore(const TextSource& text) : state_(std::make_unique<State>(text)) {}
OutputCore::~OutputCore() = default;

void OutputCore::open(OutputSpec spec) {
  Live l;
  l.choices.resize(static_cast<size_t>(std::max(1, spec.choices)));
  for (Choice& c : l.choices) {
    c.stream = state_->text.stream(spec.skip_special);
    if (spec.stop.empty()) continue;
    auto matcher = text::StopMatcher::create({spec.stop, spec.include_stop, spec.min_tokens});
    // Refused strings were refused when the request came; an engine that let one through ignores it.
    if (matcher.ok()) c.stops.emplace(std::move(matcher).value());
  }
  l.spec = std::move(spec);
  const RequestId id = l.spec.id;
  state_->live.insert_or_assign(id, std::move(l));
}

void OutputCore::close(RequestId id) { state_->live.erase(id); }
size_t OutputCore::live() const { return state_->live.size(); }

void OutputCore::take(const Outputs& outputs, std::vector<Event>& events, std::vector<Cut>& cuts) {
  State& st = *state_;
  for (const ScoreOutput& score : outputs.scores) st.take_score(outputs, score);
  st.look_ahead(outputs);
  for (const TokenOutput& token : outputs.tokens) st.take_token(outputs, token, events, cuts);
  for (const ChoiceEnd& end : outputs.choices) {
    Live* l = st.find(end.request);
    if (l == nullptr) continue;
    if (State::choice_of(*l, end.choice) != nullptr) st.flush(*l, end.choice, events, cuts);
    if (Choice* c = State::choice_of(*l, end.choice); c != nullptr) {
      c->stop_token = end.stop_token;
      st.finish(*l, end.choice, end.reason, events);
    }
  }
  for (const RequestEnd& end : outputs.requests) st.end(end, events, cuts);
  // What was remembered of this batch is forgotten before the next.
  for (const TokenOutput& token : outputs.tokens) {
    Live* l = st.find(token.request);
    if (l == nullptr || static_cast<size_t>(token.choice) >= l->choices.size()) continue;
    l->choices[static_cast<size_t>(token.choice)].event = kNoEvent;
  }
}

// A stop token's text is not shown: which token it is must be known before its text is made.
void OutputCore::State::look_ahead(const Outputs& outputs) {
  const bool stops = std::any_of(outputs.choices.begin(), outputs.choices.end(),
                                 [](const ChoiceEnd& e) { return e.stop_token >= 0; });
  if (!stops) return;
  for (const ChoiceEnd& end : outputs.choices) {
    Live* l = find(end.request);
    Choice* c = l == nullptr ? nullptr : choice_of(*l, end.choice);
    if (c != nullptr) c->ending_token = end.stop_token;
  }
  for (const TokenOutput& token : outputs.tokens) {
    Live* l = find(token.request);
    Choice* c = l == nullptr ? nullptr : choice_of(*l, token.choice);
    if (c != nullptr && c->ending_token >= 0) c->last_index = token.index;
  }
}

void OutputCore::State::take_score(const Outputs& outputs, const ScoreOutput& score) {
  Live* l = find(score.request);
  if (l == nullptr) return;
  const auto position = static_cast<size_t>(score.position);
  if (l->prompt_table.size() <= position) l->prompt_table.resize(position + 1);
  std::vector<TokenLogprob>& row = l->prompt_table[position];
  row.push_back({score.token, score.logprob, score.rank});
  append_tops(outputs, score.top_begin, score.top_count, row);
}

// The tokens event of this choice in this batch, made when it is first needed.
Event& OutputCore::State::event_of(Live& l, int32_t index, std::vector<Event>& events) {
  Choice& c = l.choices[static_cast<size_t>(index)];
  if (c.event == kNoEvent) {
    c.event = events.size();
    Event& e = events.emplace_back();
    e.id = l.spec.id;
    e.user_data = l.spec.user_data;
    e.index = index;
    e.from = c.tokens;
    if (!l.spoke && l.spec.prompt_logprobs) {
      if (l.prompt_table.empty()) l.prompt_table.resize(1);  // a prompt of one token
      e.prompt_logprobs = std::move(l.prompt_table);
    }
    l.spoke = true;
  }
  return events[c.event];
}

void OutputCore::State::take_token(const Outputs& outputs, const TokenOutput& token,
                                   std::vector<Event>& events, std::vector<Cut>& cuts) {
  Live* l = find(token.request);
  Choice* c = l == nullptr ? nullptr : choice_of(*l, token.choice);
  if (c == nullptr) return;  // ended by a stop string meanwhile, or nobody's
  TR_ASSERT(token.index == c->tokens);  // INV-OUT-1
  Event& e = event_of(*l, token.choice, events);
  e.tokens.push_back(token.token);
  ++c->tokens;
  if (l->spec.logprobs) {
    e.logprobs.push_back(token.logprob);
    append_tops(outputs, token.top_begin, token.top_count, e.top_logprobs.emplace_back());
  }
  const bool ends = c->ending_token == token.token && c->last_index == token.index;
  if (ends && !l->spec.include_stop) return;
  fresh.clear();
  c->stream->push(token.token, fresh);
  say(*l, token.choice, fresh, events, cuts);
}

// Text on its way out passes the stop strings.
void OutputCore::State::say(Live& l, int32_t index, std::string_view what,
                            std::vector<Event>& events, std::vector<Cut>& cuts) {
  Choice& c = l.choices[static_cast<size_t>(index)];
  if (what.empty()) return;
  Event& e = event_of(l, index, events);
  if (!c.stops) {
    e.text += what;
    return;
  }
  const text::StopMatch* match = c.stops->push(what, c.tokens, e.text);
  if (match == nullptr) return;
  c.stop_text = c.stops->stop(match->stop);
  cuts.push_back({l.spec.id, index, static_cast<int32_t>(match->tokens)});
  finish(l, index, FinishReason::stop, events);
}

// No token follows: what waits for the rest of a character or of a stop string comes out.
void OutputCore::State::flush(Live& l, int32_t index, std::vector<Event>& events,
                              std::vector<Cut>& cuts) {
  Choice& c = l.choices[static_cast<size_t>(index)];
  fresh.clear();
  c.stream->finish(fresh);
  say(l, index, fresh, events, cuts);
  if (c.finish != FinishReason::none || !c.stops) return;
  fresh.clear();
  c.stops->finish(fresh);
  if (!fresh.empty()) event_of(l, index, events).text += fresh;
}

void OutputCore::State::finish(Live& l, int32_t index, FinishReason reason,
                               std::vector<Event>& events) {
  Choice& c = l.choices[static_cast<size_t>(index)];
  Event& e = event_of(l, index, events);
  c.finish = reason;
  e.finish = reason;
  e.stop_token = c.stop_token;
  e.stop_text = c.stop_text;
  c.event = kNoEvent;
}

void OutputCore::State::end(const RequestEnd& end, std::vector<Event>& events,
                            std::vector<Cut>& cuts) {
  const auto it = live.find(end.request);
  if (it == live.end()) return;
  Live& l = it->second;
  const FinishReason reason =
      end.kind == EventKind::cancelled ? FinishReason::cancelled : FinishReason::error;
  int64_t said = 0;
  for (size_t i = 0; i < l.choices.size(); ++i) {
    const auto index = static_cast<int32_t>(i);
    if (l.choices[i].finish == FinishReason::none && l.choices[i].tokens > 0) {
      flush(l, index, events, cuts);
      if (l.choices[i].finish == FinishReason::none) finish(l, index, reason, events);
    }
    said += l.choices[i].tokens;
  }
  const Choice& first = l.choices.front();
  Event e;
  e.kind = end.kind;
  e.id = l.spec.id;
  e.user_data = l.spec.user_data;
  e.from = first.tokens;
  e.finish = first.finish != FinishReason::none ? first.finish : reason;
  e.stop_token = first.stop_token;
  e.stop_text = first.stop_text;
  e.usage = end.usage;
  e.usage.completion_tokens = said;
  e.timings = end.timings;
  e.status = end.status;
  if (!l.spoke && l.spec.prompt_logprobs) e.prompt_logprobs = std::move(l.prompt_table);
  events.push_back(std::move(e));  // INV-OUT-2
  live.erase(it);
}

}  // namespace troupe::engine
