// The C face of the Rust text library (text/rust): tokenizers, chat templates, output grammars.
//
// Every call returns a tt_status; what failed is then in *error (freed by tt_bytes_free). No call
// unwinds into C: a panic inside is caught and comes back as TT_PANIC. Handles are immutable after
// their creation and may be used from any thread, a tt_grammar aside. The C++ faces are
// text/tokenizer.hpp, chat_template.hpp and grammar.hpp; nothing outside text/ includes this header.
#ifndef TROUPE_TEXT_FFI_H
#define TROUPE_TEXT_FFI_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum tt_status {
  TT_OK = 0,
  TT_INVALID = 1,     // what the caller passed
  TT_CORRUPT = 2,     // what the model folder holds
  TT_UNSUPPORTED = 3, // a template or vocabulary that asks for something not offered
  TT_PANIC = 4,       // a bug in the library or below it
  TT_LIMIT = 5        // a chat template went beyond what one rendering may take
} tt_status;

typedef struct tt_slice {  // borrowed
  const char* data;
  size_t size;
} tt_slice;

typedef struct tt_bytes {  // owned by the library
  char* data;
  size_t size;
} tt_bytes;

typedef struct tt_ids {  // owned by the library
  uint32_t* data;
  size_t size;
} tt_ids;

void tt_bytes_free(tt_bytes bytes);
void tt_ids_free(tt_ids ids);

// ---- tokenizers -------------------------------------------------------------------------------

typedef struct tt_tokenizer tt_tokenizer;

// A tokenizer.json. `options` is a JSON object, all members optional:
//   "added_tokens": [{"content", "lstrip", "rstrip", "single_word", "normalized", "special"}]
//       tokens to add behind the file's own, in this order, where they are not known yet;
//   "prefix", "suffix": token strings put around a text when special tokens are asked for, instead
//       of what the file's post-processor does;
//   "metaspace": "first" | "always" | "never": the file's normalizer, pre-tokenizer and decoder give
//       way to the Llama pipeline with that prefix rule.
int32_t tt_tokenizer_from_json(tt_slice json, tt_slice options, tt_tokenizer** out, tt_bytes* error);

// A tiktoken vocabulary: lines of "base64-token rank". `options`: "pattern" (required), "nfc": bool,
// "special_tokens": [{"content", "id", ...as above}], "prefix", "suffix".
int32_t tt_tokenizer_from_ranks(tt_slice file, tt_slice options, tt_tokenizer** out, tt_bytes* error);
void tt_tokenizer_free(tt_tokenizer* tokenizer);

enum { TT_ADD_SPECIAL = 1, TT_SPECIAL_AS_TEXT = 2 };
int32_t tt_tokenizer_encode(const tt_tokenizer* tokenizer, tt_slice text, uint32_t flags, tt_ids* out,
                            tt_bytes* error);
int32_t tt_tokenizer_decode(const tt_tokenizer* tokenizer, const uint32_t* ids, size_t count,
                            int32_t skip_special, tt_bytes* out, tt_bytes* error);

// How ids become text, when that can be said per token (see text/vocabulary.hpp).
enum { TT_DECODE_BYTES = 0, TT_DECODE_PIECES = 1, TT_DECODE_WHOLE = 2 };
enum { TT_PIECE_KNOWN = 1, TT_PIECE_SPECIAL = 2, TT_PIECE_BYTE = 4 };
typedef struct tt_pieces {
  uint32_t count;          // one more than the highest id
  tt_bytes bytes;          // what each token contributes, end to end
  tt_ids byte_offsets;     // count + 1
  tt_bytes names;          // each token as the vocabulary spells it
  tt_ids name_offsets;     // count + 1
  tt_bytes flags;          // count
  int32_t decode;          // TT_DECODE_*
  uint32_t strip_left;     // spaces dropped from the start of a text
  int32_t first_drops_spaces;  // the first token loses all its spaces
} tt_pieces;
int32_t tt_tokenizer_pieces(const tt_tokenizer* tokenizer, tt_pieces* out, tt_bytes* error);
void tt_pieces_free(tt_pieces pieces);

// ---- chat templates ---------------------------------------------------------------------------

typedef struct tt_template tt_template;

typedef struct tt_render {
  tt_slice messages;         // JSON array
  tt_slice tools;            // JSON array, or empty: none
  tt_slice documents;        // JSON array, or empty: none
  tt_slice kwargs;           // JSON object, or empty; wins over special_tokens
  tt_slice special_tokens;   // JSON object: bos_token and its like
  tt_slice continue_field;   // the message field to go on with, or empty
  int32_t add_generation_prompt;
  int32_t has_now;
  int64_t now_s;             // the clock of strftime_now, when has_now
} tt_render;

int32_t tt_template_new(tt_slice source, tt_template** out, tt_bytes* error);
int32_t tt_template_render(const tt_template* tmpl, const tt_render* request, tt_bytes* out,
                           tt_bytes* error);
void tt_template_free(tt_template* tmpl);

// ---- output grammars --------------------------------------------------------------------------

typedef struct tt_compiler tt_compiler;  // of one vocabulary; any thread
typedef struct tt_grammar tt_grammar;    // of one sequence; one thread at a time

typedef struct tt_vocabulary {
  uint32_t count;           // of the model: ids beyond the tokenizer's are never allowed
  tt_slice bytes;           // what each token contributes, end to end; special tokens: 0xFF + name
  const uint32_t* offsets;  // count + 1
  const uint32_t* eos;      // allowed where the grammar may end
  size_t eos_count;
} tt_vocabulary;

enum { TT_JSON_SCHEMA = 1, TT_REGEX = 2, TT_LARK = 3, TT_CHOICE = 4 };

int32_t tt_compiler_new(const tt_vocabulary* vocabulary, tt_compiler** out, tt_bytes* error);
void tt_compiler_free(tt_compiler* compiler);
int32_t tt_grammar_new(const tt_compiler* compiler, int32_t kind, tt_slice text, tt_grammar** out,
                       tt_bytes* error);
void tt_grammar_free(tt_grammar* grammar);
// Bit i of `words` says whether token i may come next. words >= (count + 31) / 32.
int32_t tt_grammar_mask(tt_grammar* grammar, uint32_t* bits, size_t words, tt_bytes* error);
int32_t tt_grammar_commit(tt_grammar* grammar, uint32_t token, tt_bytes* error);
int32_t tt_grammar_rollback(tt_grammar* grammar, size_t tokens, tt_bytes* error);
int32_t tt_grammar_finished(const tt_grammar* grammar);

#ifdef __cplusplus
}
#endif

#endif
