#include "engine/output_core.hpp"

#include <algorithm>
#include <span>
#include <string>
#include <utility>

#include "engine/request_map.hpp"
#include "text/stop.hpp"

namespace troupe::engine {
namespace {

// One choice as it speaks. What every token needs comes first.
struct Voice {
  std::unique_ptr<TextStream> stream;
  std::unique_ptr<text::StopMatcher> stops;  // null: no stop strings
  int32_t tokens = 0;                        // delivered
  FinishReason finish = FinishReason::none;
  // How it ends in the batch being taken, and after which of its tokens; none: it goes on.
  FinishReason ending = FinishReason::none;
  int32_t ending_token = -1;  // a stop token
  int32_t last_index = -1;
  int32_t stop_token = -1;
  std::string stop_text;
};

// A request. With one choice that goes on, a token touches one line of it.
struct alignas(64) Live {
  std::shared_ptr<EventSink> sink;
  RequestId id = 0;
  uint64_t user_data = 0;
  bool plain = true;   // nobody wants logprobs
  bool spoke = false;  // an event has gone out
  Voice first;
  std::vector<Voice> others;  // further choices
  OutputSpec spec;
  LogprobTable prompt_table;

  // Null: it has finished, or there is none.
  Voice* voice(int32_t index) {
    if (index == 0) return first.finish == FinishReason::none ? &first : nullptr;
    if (index < 0 || static_cast<size_t>(index) > others.size()) return nullptr;
    Voice& v = others[static_cast<size_t>(index) - 1];
    return v.finish == FinishReason::none ? &v : nullptr;
  }
  [[nodiscard]] int32_t index_of(const Voice& v) const {
    return &v == &first ? 0 : static_cast<int32_t>(&v - others.data()) + 1;
  }
  template <class F>
  void each_voice(F&& visit) {
    visit(first);
    for (Voice& v : others) visit(v);
  }
};

void append_tops(const Outputs& outputs, uint32_t begin, uint32_t count,
                 std::vector<TokenLogprob>& row) {
  for (uint32_t i = 0; i < count; ++i) {
    const StepTop& top = outputs.tops[begin + i];
    row.push_back({top.token, top.logprob, static_cast<int32_t>(i) + 1});
  }
}

// Where the tokens of one choice end that follow one another from `begin` on.
size_t end_of_run(const std::vector<TokenOutput>& tokens, size_t begin) {
  const TokenOutput& first = tokens[begin];
  size_t end = begin + 1;
  while (end < tokens.size() && tokens[end].request == first.request && tokens[end].choice == first.choice) ++end;
  return end;
}

}  // namespace

struct OutputCore::State {
  explicit State(const TextSource& t) : text_source(t) {}

  void find_all(const std::vector<TokenOutput>& tokens);
  void say_one(Live& l, Voice& v, const TokenOutput& token);
  void mark_endings(const Outputs& outputs);
  void take_score(const Outputs& outputs, const ScoreOutput& score);
  void say(Live& l, Voice& v, std::span<const TokenOutput> run, const Outputs& outputs);
  void hear(Live& l, Voice& v, std::string_view what);
  void flush(Live& l, Voice& v);
  void deliver(Live& l, const Voice& v, std::span<const TokenOutput> run, const Outputs& outputs);
  void end(const RequestEnd& end);

  const TextSource& text_source;
  RequestMap<Live> live;
  std::vector<Cut>* cuts = nullptr;  // the caller's
  // By token of the batch; null: nobody's. Good for the next batch until somebody comes or goes.
  struct Found {
    RequestId request = 0;
    Live* live = nullptr;
    const TextStream* stream = nullptr;
    const EventSink* sink = nullptr;

    void fetch() const {
      __builtin_prefetch(live, 1);
      __builtin_prefetch(stream, 1);
      __builtin_prefetch(sink, 1);
    }
  };
  std::vector<Found> found;
  // Of the run being said; used again and again.
  std::vector<int32_t> ids;
  std::string text, fresh;
};

OutputCore::OutputCore(const TextSource& text) : state_(std::make_unique<State>(text)) {}
OutputCore::~OutputCore() = default;

void OutputCore::open(OutputSpec spec, std::shared_ptr<EventSink> sink) {
  Live l;
  l.sink = std::move(sink);
  l.id = spec.id;
  l.user_data = spec.user_data;
  l.plain = !spec.logprobs && !spec.prompt_logprobs;
  l.others.resize(static_cast<size_t>(std::max(1, spec.choices) - 1));
  l.each_voice([&](Voice& v) {
    v.stream = state_->text_source.stream(spec.skip_special);
    if (spec.stop.empty()) return;
    auto matcher = text::StopMatcher::create({spec.stop, spec.include_stop, spec.min_tokens});
    // Refused strings were refused when the request came; an engine that let one through ignores it.
    if (matcher.ok()) v.stops = std::make_unique<text::StopMatcher>(std::move(matcher).value());
  });
  l.spec = std::move(spec);
  const RequestId id = l.spec.id;
  state_->live.put(id, std::move(l));
  state_->found.clear();
}

size_t OutputCore::live() const { return state_->live.size(); }

void OutputCore::take(const Outputs& outputs, std::vector<Cut>& cuts) {
  State& st = *state_;
  st.cuts = &cuts;
  for (const ScoreOutput& score : outputs.scores) st.take_score(outputs, score);
  st.find_all(outputs.tokens);
  st.mark_endings(outputs);
  for (size_t i = 0; i < outputs.tokens.size();) {
    const TokenOutput& token = outputs.tokens[i];
    const size_t end = end_of_run(outputs.tokens, i);
    Live* const l = st.found[i].live;
    Voice* const v = l == nullptr ? nullptr : l->voice(token.choice);
    if (v == nullptr) {
      // A stop string ended it, or nobody's.
    } else if (end - i == 1 && l->plain && v->stops == nullptr && v->ending == FinishReason::none) {
      st.say_one(*l, *v, token);
    } else {
      st.say(*l, *v, std::span(outputs.tokens).subspan(i, end - i), outputs);
    }
    i = end;
  }
  for (const ChoiceEnd& end : outputs.choices) {  // those that ended without a token
    Live* l = st.live.find(end.request);
    Voice* v = l == nullptr ? nullptr : l->voice(end.choice);
    if (v != nullptr) st.say(*l, *v, {}, outputs);
  }
  for (const RequestEnd& end : outputs.requests) st.end(end);
}

// All look-ups first, and all that they lead to on its way: hundreds of requests are cold when a step
// comes, and their misses are waited for together. The batch before mostly had the same requests.
void OutputCore::State::find_all(const std::vector<TokenOutput>& tokens) {
  const size_t known = std::min(found.size(), tokens.size());
  size_t same = 0;
  for (; same < known && found[same].request == tokens[same].request; ++same) found[same].fetch();
  found.resize(same);
  for (size_t i = same; i < tokens.size(); ++i) {
    Live* const l = live.find(tokens[i].request);
    __builtin_prefetch(l, 1);
    found.push_back({tokens[i].request, l, nullptr, nullptr});
  }
  for (size_t i = same; i < found.size(); ++i) {
    if (found[i].live == nullptr) continue;
    found[i].stream = found[i].live->first.stream.get();
    found[i].sink = found[i].live->sink.get();
    found[i].fetch();
  }
}

// How a choice ends must be known before its last token is said: a stop token's text is not shown,
// and the finish goes out with the last tokens (INV-EVENT-3).
void OutputCore::State::mark_endings(const Outputs& outputs) {
  if (outputs.choices.empty()) return;
  for (const ChoiceEnd& end : outputs.choices) {
    Live* l = live.find(end.request);
    Voice* v = l == nullptr ? nullptr : l->voice(end.choice);
    if (v == nullptr) continue;
    v->ending = end.reason;
    v->ending_token = end.stop_token;
  }
  for (size_t i = 0; i < found.size(); ++i) {
    const TokenOutput& token = outputs.tokens[i];
    Voice* v = found[i].live == nullptr ? nullptr : found[i].live->voice(token.choice);
    if (v != nullptr) v->last_index = token.index;
  }
}

void OutputCore::State::take_score(const Outputs& outputs, const ScoreOutput& score) {
  Live* l = live.find(score.request);
  if (l == nullptr) return;
  const auto position = static_cast<size_t>(score.position);
  if (l->prompt_table.size() <= position) l->prompt_table.resize(position + 1);
  std::vector<TokenLogprob>& row = l->prompt_table[position];
  row.push_back({score.token, score.logprob, score.rank});
  append_tops(outputs, score.top_begin, score.top_count, row);
}

// say(), for what most tokens are.
void OutputCore::State::say_one(Live& l, Voice& v, const TokenOutput& token) {
  TR_ASSERT(token.index == v.tokens);  // INV-OUT-1
  text.clear();
  v.stream->push(token.token, text);
  l.spoke = true;
  l.sink->push_delta({l.id, l.user_data, token.choice, v.tokens++, std::span(&token.token, 1), text});
}

void OutputCore::State::say(Live& l, Voice& v, std::span<const TokenOutput> run,
                            const Outputs& outputs) {
  ids.clear();
  text.clear();
  for (const TokenOutput& token : run) {
    TR_ASSERT(token.index == v.tokens);  // INV-OUT-1
    ids.push_back(token.token);
    ++v.tokens;
    const bool stopped = v.ending != FinishReason::none && v.ending_token == token.token &&
                         v.last_index == token.index;
    if (stopped && !l.spec.include_stop) continue;
    if (v.stops == nullptr) {
      v.stream->push(token.token, text);
      continue;
    }
    fresh.clear();
    v.stream->push(token.token, fresh);
    hear(l, v, fresh);
    if (v.finish != FinishReason::none) break;  // what follows was never said
  }
  if (v.finish == FinishReason::none && v.ending != FinishReason::none &&
      (run.empty() || run.back().index == v.last_index)) {
    flush(l, v);
    if (v.finish == FinishReason::none) {
      v.stop_token = v.ending_token;
      v.finish = v.ending;
    }
  }
  deliver(l, v, run.first(ids.size()), outputs);
}

// Text on its way out passes the stop strings.
void OutputCore::State::hear(Live& l, Voice& v, std::string_view what) {
  if (what.empty()) return;
  const text::StopMatch* match = v.stops->push(what, v.tokens, text);
  if (match == nullptr) return;
  v.stop_text = v.stops->stop(match->stop);
  v.finish = FinishReason::stop;
  cuts->push_back({l.id, l.index_of(v), static_cast<int32_t>(match->tokens)});
}

// No token follows: what waits for the rest of a character or of a stop string comes out.
void OutputCore::State::flush(Live& l, Voice& v) {
  if (v.stops == nullptr) return v.stream->finish(text);
  fresh.clear();
  v.stream->finish(fresh);
  hear(l, v, fresh);
  if (v.finish == FinishReason::none) v.stops->finish(text);
}

void OutputCore::State::deliver(Live& l, const Voice& v, std::span<const TokenOutput> run,
                                const Outputs& outputs) {
  const int64_t from = int64_t{v.tokens} - static_cast<int64_t>(ids.size());
  if (l.plain && v.finish == FinishReason::none) {
    l.spoke = true;
    return l.sink->push_delta({l.id, l.user_data, l.index_of(v), from, ids, text});
  }
  Event e = TokenDelta{l.id, l.user_data, l.index_of(v), from, ids, text}.event();
  for (size_t i = 0; l.spec.logprobs && i < run.size(); ++i) {
    e.logprobs.push_back(run[i].logprob);
    append_tops(outputs, run[i].top_begin, run[i].top_count, e.top_logprobs.emplace_back());
  }
  if (!l.spoke && l.spec.prompt_logprobs) {
    if (l.prompt_table.empty()) l.prompt_table.resize(1);  // a prompt of one token
    e.prompt_logprobs = std::move(l.prompt_table);
  }
  l.spoke = true;
  e.finish = v.finish;
  e.stop_token = v.stop_token;
  e.stop_text = v.stop_text;
  l.sink->push(std::move(e));
}

void OutputCore::State::end(const RequestEnd& end) {
  Live* const there = live.find(end.request);
  if (there == nullptr) return;
  Live& l = *there;
  const FinishReason reason =
      end.kind == EventKind::cancelled ? FinishReason::cancelled : FinishReason::error;
  int64_t said = 0;
  l.each_voice([&](Voice& v) {
    if (v.finish == FinishReason::none && v.tokens > 0) {
      v.ending = reason;
      v.ending_token = -1;
      say(l, v, {}, {});
    }
    said += v.tokens;
  });
  const Voice& first = l.first;
  Event e;
  e.kind = end.kind;
  e.id = l.id;
  e.user_data = l.user_data;
  e.from = first.tokens;
  e.finish = first.finish != FinishReason::none ? first.finish : reason;
  e.stop_token = first.stop_token;
  e.stop_text = first.stop_text;
  e.usage = end.usage;
  e.usage.completion_tokens = said;
  e.timings = end.timings;
  e.status = end.status;
  if (!l.spoke && l.spec.prompt_logprobs) e.prompt_logprobs = std::move(l.prompt_table);
  l.sink->push(std::move(e));  // INV-OUT-2
  live.erase(end.request);
  found.clear();
}

}  // namespace troupe::engine
