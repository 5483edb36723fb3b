#include "cli/sampling_flags.hpp"

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include "cli/numbers.hpp"

namespace troupe::cli {

namespace {
const char* const group = "Sampling";
}

void declare_draw(CLI::App& app, troupe_sampling& raw) {
  app.add_option("--temperature", raw.temperature, "0 takes the likeliest")
      ->group(group)
      ->check(a_number());
  app.add_option("--top-p", raw.top_p, "Nucleus, in (0, 1]")->group(group)->check(a_number());
  app.add_option("--top-k", raw.top_k, "0: no limit")->group(group);
  app.add_option("--min-p", raw.min_p, "In [0, 1]")->group(group)->check(a_number());
  app.add_option("--repetition-penalty", raw.repetition_penalty, "Above 1 discourages")
      ->group(group)
      ->check(a_number());
  app.add_option("--presence-penalty", raw.presence_penalty, "OpenAI's")
      ->group(group)
      ->check(a_number());
  app.add_option("--frequency-penalty", raw.frequency_penalty, "OpenAI's")
      ->group(group)
      ->check(a_number());
  app.add_option("--seed", raw.seed, "Same seed, same draws")->group(group)->check(whole_number());
}

void SamplingFlags::declare(CLI::App& app) {
  troupe_sampling& raw = sampling.raw;
  declare_draw(app, raw);
  app.add_option("--max-tokens", raw.max_tokens, "Default: the model's max_new_tokens, else what the context leaves")->group(group);
  app.add_option("--min-tokens", raw.min_tokens, "No end before so many")->group(group);
  app.add_option("--stop", sampling.stop, "A text that ends the answer; may be repeated")
      ->group(group);
  app.add_option("--stop-token", sampling.stop_tokens, "A token id that ends it")->group(group);
  app.add_option("--bad-word", sampling.bad_words, "Never said; may be repeated")->group(group);
  app.add_flag("--ignore-eos", ignore_eos, "Go on past the end of sequence")->group(group);
  app.add_flag("--include-stop", include_stop, "Leave the stop text in the answer")->group(group);
  app.add_flag("--keep-special", keep_special, "Leave special tokens in the text")->group(group);
}

troupe_error* SamplingFlags::apply(troupe_request* request) {
  if (ignore_eos) sampling.raw.ignore_eos = 1;
  if (include_stop) sampling.raw.include_stop = 1;
  if (keep_special) sampling.raw.skip_special_tokens = 0;
  return sampling.apply(request);
}

}  // namespace troupe::cli
