// The cases of the ops suite, by file.
#pragma once

namespace troupe::ops_suite {

class Lab;

// row_cases.cpp
void embed_case(Lab& lab);
void inject_gather_case(Lab& lab);
void norm_case(Lab& lab);
void norm_group_case(Lab& lab);
void add_case(Lab& lab);
void scale_columns_case(Lab& lab);
void mix_rows_case(Lab& lab);
void activation_case(Lab& lab);
void gated_activation_case(Lab& lab);

// linear_cases.cpp
void linear_few_rows_case(Lab& lab);
void linear_many_rows_case(Lab& lab);
void linear_parts_case(Lab& lab);
void linear_select_case(Lab& lab);
void head_linear_case(Lab& lab);
void experts_case(Lab& lab);
void experts_few_case(Lab& lab);
void experts_many_case(Lab& lab);
void experts_groups_case(Lab& lab);

// rope_cases.cpp
void rope_case(Lab& lab);
void rope_long_case(Lab& lab);
void rope_sections_case(Lab& lab);

// attention_cases.cpp
void attention_prefill_case(Lab& lab);
void attention_mixed_case(Lab& lab);
void attention_decode_case(Lab& lab);
void attention_window_case(Lab& lab);
void attention_extras_case(Lab& lab);
void attention_spans_case(Lab& lab);
void attention_latent_case(Lab& lab);
void attention_cross_case(Lab& lab);
void block_copies_case(Lab& lab);
void packed_attention_case(Lab& lab);
void packed_attention_keys_case(Lab& lab);

// sample_cases.cpp
void sample_greedy_case(Lab& lab);
void sample_head_case(Lab& lab);
void sample_rules_case(Lab& lab);
void sample_draw_case(Lab& lab);
void sample_top_case(Lab& lab);
void sample_crowd_case(Lab& lab);
void sample_logprobs_case(Lab& lab);
void sample_feedback_case(Lab& lab);
void sample_poison_case(Lab& lab);

}  // namespace troupe::ops_suite
