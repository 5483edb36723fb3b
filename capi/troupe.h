/* troupe.h - the C interface of Troupe, an engine for language and vision-language models.
 *
 * The whole of one answer, without error handling:
 *
 *     troupe_queue *queue;      troupe_queue_new(&queue);
 *     troupe_engine *engine;    troupe_engine_open("path/to/model", NULL, &engine);
 *     troupe_request *request;  troupe_request_new(&request);
 *     troupe_request_message(request, TROUPE_ROLE_USER);
 *     troupe_request_text(request, "Why is the sky blue?", 20);
 *     uint64_t id;              troupe_submit(engine, request, queue, 0, &id);
 *     for (int done = 0; !done;) {
 *       troupe_events *events;
 *       troupe_queue_wait(queue, -1, 0, &events);
 *       for (uint32_t i = 0; i < TROUPE_COUNT(events); ++i) {
 *         const troupe_event *event = TROUPE_EVENT(events, i);
 *         fwrite(event->text, 1, event->text_size, stdout);
 *         done = TROUPE_IS_TERMINAL(event->kind);
 *       }
 *       troupe_events_free(events);
 *     }
 *     troupe_request_free(request); troupe_engine_free(engine); troupe_queue_free(queue);
 *
 * Rules that hold everywhere:
 *
 * 1. Errors. A function that can fail returns `troupe_error *`: NULL is success, anything else is
 *    owned by the caller (troupe_error_free). There is no "last error" and errno means nothing.
 *    A NULL where an object or an `out` is needed answers INVALID. `*out` is NULL after a failure.
 * 2. Sized structs. Each starts with `struct_size`. Structs that you fill: call their _init first,
 *    which writes the size and, into every number, a value that means "not given" (NaN, -1,
 *    TROUPE_UNSET); then the model's generation_config.json decides, else the default written here.
 *    0 means zero: temperature 0 is greedy, seed 0 is a seed, max_tokens 0 scores the prompt.
 *    Pointers and counts are absent when NULL / 0. Structs that the library fills for you: set
 *    struct_size = sizeof yourself. Fields are only ever appended; a newer program on an older
 *    library gets UNSUPPORTED when it sets a field that the library does not know.
 * 3. Ownership. What you pass in is copied before the call returns, images with a `release`
 *    excepted. What you get out belongs to the object it came from and dies with its _free.
 *    Every _free takes NULL. Text is UTF-8 with a length, never cut inside a character.
 * 4. Threads. Engines, queues, sessions and servers may be used from many threads at once; a
 *    request belongs to one thread at a time; errors, events and bytes never change.
 *    An _free must not race other calls on the same object.
 * 5. Events. There are no callbacks (the log sink and `release` excepted): everything comes through
 *    a queue. Every accepted request gets exactly one terminal event, DONE, CANCELLED or FAILED,
 *    and it is its last - also when the engine closes or the connection is lost.
 * 6. A slow reader costs nothing: tokens of one request merge into one event while they wait.
 * 7. fork. A child may exec or _exit; other calls answer FORKED and free nothing.
 * 8. exit. Engines still open when the process exits are closed as by troupe_engine_close(e, 0).
 *
 * Versions: 0.x may break between minors and then changes the soname (libtroupe.so.0.N); from 1.0
 * on nothing published changes. What came after 0.1 says "since".
 */
#ifndef TROUPE_H
#define TROUPE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TROUPE_VERSION_MAJOR 0
#define TROUPE_VERSION_MINOR 1
#define TROUPE_VERSION_PATCH 0

#if defined(__GNUC__)
#define TROUPE_API __attribute__((visibility("default")))
#define TROUPE_MUST_USE __attribute__((warn_unused_result))
#else
#define TROUPE_API
#define TROUPE_MUST_USE
#endif

/* "Not given", for 64-bit numbers for which -1 would be a value. 32-bit ones use -1, floats NaN. */
#define TROUPE_UNSET INT64_MIN

typedef struct troupe_engine troupe_engine;
typedef struct troupe_queue troupe_queue;
typedef struct troupe_request troupe_request;
typedef struct troupe_session troupe_session;
typedef struct troupe_server troupe_server;
typedef struct troupe_error troupe_error;

/* ---- Library ------------------------------------------------------------------------------------
 *
 *     if (troupe_version() >> 8 != (TROUPE_VERSION_MAJOR << 8 | TROUPE_VERSION_MINOR))
 *       fprintf(stderr, "built for another troupe than %s\n", troupe_version_string());
 */

/* MAJOR << 16 | MINOR << 8 | PATCH of the library that is loaded. */
TROUPE_API uint32_t troupe_version(void);

/* "0.1.0 (build id)": for bug reports. Lives as long as the library. */
TROUPE_API const char *troupe_version_string(void);

/* The size of a struct of this header, by name ("troupe_event"), as the loaded library knows it;
 * 0 for a name that it does not know. Language bindings compare at start. */
TROUPE_API uint32_t troupe_sizeof(const char *struct_name);

/* ---- Errors -------------------------------------------------------------------------------------
 *
 *     troupe_error *error = troupe_engine_open(path, NULL, &engine);
 *     if (error) {
 *       fprintf(stderr, "%s: %s\n", troupe_error_name(troupe_error_code(error)),
 *               troupe_error_message(error));
 *       troupe_error_free(error);
 *     }
 */

/* These numbers are frozen and shared with the wire protocol, HTTP and every SDK. */
enum {
  TROUPE_OK = 0,
  TROUPE_ERROR_INVALID = 1,         /* an argument: the message names it, value and bounds */
  TROUPE_ERROR_LIMIT = 2,           /* larger than a limit that is in force */
  TROUPE_ERROR_OVERLOADED = 3,      /* retryable: too much is waiting, or the engine still loads */
  TROUPE_ERROR_DEADLINE = 4,        /* the request's deadline passed */
  TROUPE_ERROR_CANCELLED = 5,
  TROUPE_ERROR_NOT_FOUND = 6,       /* a file, model, session or adapter */
  TROUPE_ERROR_UNSUPPORTED = 7,     /* known, and not possible here: the message says what is */
  TROUPE_ERROR_CORRUPT_MODEL = 8,   /* names file and field */
  TROUPE_ERROR_OUT_OF_MEMORY = 9,
  TROUPE_ERROR_DEVICE_FAILED = 10,  /* retryable when another device can serve */
  TROUPE_ERROR_CONNECTION_LOST = 11, /* retryable */
  TROUPE_ERROR_CLOSED = 12,         /* the engine or the server was closed */
  TROUPE_ERROR_FORKED = 13,         /* this process is a fork of the one that opened it */
  TROUPE_ERROR_UNAUTHORISED = 14,
  TROUPE_ERROR_INTERNAL = 15        /* a bug of ours: please report it */
};

TROUPE_API int32_t troupe_error_code(const troupe_error *error);      /* NULL: TROUPE_OK */
TROUPE_API int32_t troupe_error_retryable(const troupe_error *error); /* 1: it may succeed later */

/* What failed, where, and what to do about it. Never NULL; lives as long as the error. */
TROUPE_API const char *troupe_error_message(const troupe_error *error);
TROUPE_API void troupe_error_free(troupe_error *error);

/* "INVALID", "OVERLOADED" ...; "UNKNOWN" for a number that the library does not know. */
TROUPE_API const char *troupe_error_name(int32_t code);

/* ---- Log ----------------------------------------------------------------------------------------
 * Nothing is ever written to stdout or stderr; this is how to hear what the library has to say.
 *
 *     static void to_stderr(void *user, int32_t level, const char *message, size_t size) {
 *       fprintf(stderr, "[%d] %.*s\n", level, (int)size, message);
 *     }
 *     troupe_log_set(TROUPE_LOG_WARN, to_stderr, NULL);
 */
enum {
  TROUPE_LOG_TRACE = 0,
  TROUPE_LOG_DEBUG = 1,
  TROUPE_LOG_INFO = 2,
  TROUPE_LOG_WARN = 3,
  TROUPE_LOG_ERROR = 4,
  TROUPE_LOG_OFF = 5
};

typedef void (*troupe_log_fn)(void *user, int32_t level, const char *message, size_t size);

/* Process-wide; fn NULL turns it off. `fn` runs on any thread, one call at a time. It may call this
 * API; what that logs is dropped. A sink that throws a C++ exception is turned off. When this
 * returns, the previous sink is not running and will not be called again (unless this is called
 * from inside it). */
TROUPE_API void troupe_log_set(int32_t level, troupe_log_fn fn, void *user);

/* ---- Bytes --------------------------------------------------------------------------------------
 * A result of variable size. Text is followed by a NUL that `size` does not count. */
typedef struct troupe_bytes {
  uint32_t struct_size;
  uint32_t reserved;
  const void *data;
  size_t size; /* in bytes: of int32 token ids, divide by 4 */
} troupe_bytes;

TROUPE_API void troupe_bytes_free(troupe_bytes *bytes);

/* ---- Queue --------------------------------------------------------------------------------------
 * Where events arrive. One queue may serve many requests and many engines, and many threads may
 * wait on it: each event goes to one of them. For an event loop:
 *
 *     struct pollfd fd = {troupe_queue_fd(queue), POLLIN, 0};
 *     while (poll(&fd, 1, -1) > 0) {
 *       troupe_events *events;
 *       if (troupe_queue_wait(queue, 0, 0, &events)) break;
 *       ... each TROUPE_EVENT(events, i) ...
 *       troupe_events_free(events);
 *     }
 */

enum {
  TROUPE_EVENT_READY = 0,     /* of troupe_engine_open with a queue: the engine serves. id is 0 */
  TROUPE_EVENT_ADMITTED = 1,  /* the request has left the waiting room and starts to run */
  TROUPE_EVENT_TOKENS = 2,    /* more of one choice: `tokens`, `text`, what goes with them */
  TROUPE_EVENT_DONE = 3,      /* terminal; embeddings come here, in `data` */
  TROUPE_EVENT_CANCELLED = 4, /* terminal: troupe_cancel, or the engine was closed */
  TROUPE_EVENT_FAILED = 5,    /* terminal, or with id 0: opening failed; `error` says why */
  TROUPE_EVENT_PROGRESS = 6   /* id 0: opening goes on; `text` is the phase, `progress` in [0, 1] */
};

enum {
  TROUPE_FINISH_NONE = 0,
  TROUPE_FINISH_STOP = 1,      /* end of sequence, a stop string or a stop id */
  TROUPE_FINISH_LENGTH = 2,    /* max_tokens, or the context is full */
  TROUPE_FINISH_CANCELLED = 3,
  TROUPE_FINISH_ERROR = 4
};

typedef struct troupe_logprob {
  int32_t token;
  float logprob; /* of the raw distribution, before temperature, penalties and the rest */
  int32_t rank;  /* 1 is the likeliest; 0: not known */
} troupe_logprob;

/* Row i, the alternatives at token i, best first: entries[row_starts[i]] up to, and without,
 * entries[row_starts[i + 1]]. */
typedef struct troupe_logprob_table {
  uint32_t struct_size;
  uint32_t entry_size; /* sizeof(troupe_logprob) of the library */
  size_t n_rows;
  const size_t *row_starts; /* n_rows + 1 of them */
  const troupe_logprob *entries;
} troupe_logprob_table;

typedef struct troupe_event {
  uint32_t struct_size;
  int32_t kind;               /* TROUPE_EVENT_... */
  uint64_t id;                /* of the request; 0: of an engine that opens */
  uint64_t user_data;         /* as given to troupe_submit or in the options of the engine */
  int32_t index;              /* which of the n choices */
  int32_t finish_reason;      /* TROUPE_FINISH_...: on the last TOKENS of a choice, and on DONE that
                                 of choice 0 */
  int64_t from;               /* TOKENS: how many tokens of this choice came before */
  const int32_t *tokens;      /* the id that ends the choice is among them; its text is not */
  size_t n_tokens;
  const char *text;           /* what became complete: may lag behind the tokens. PROGRESS: phase */
  size_t text_size;
  const float *logprobs;      /* n_tokens of them, or NULL when not asked for */
  const troupe_logprob_table *top_logprobs;    /* n_tokens rows, or NULL */
  const troupe_logprob_table *prompt_logprobs; /* once per request, on its first TOKENS event or on
                                 DONE: a row per prompt token, the first one empty. A row begins
                                 with the prompt's own token; alternatives follow, best first */
  int32_t stop_token;         /* the id that ended the choice; -1: none */
  int32_t reserved;
  const char *stop_text;      /* the stop string that ended it, or NULL */
  size_t stop_text_size;
  int64_t prompt_tokens;      /* usage: whole on the terminal event, so far on the others */
  int64_t cached_tokens;      /* of the prompt tokens, those whose work was reused */
  int64_t completion_tokens;  /* of all choices */
  int64_t image_tokens;       /* of the prompt tokens, those that stand for images */
  int64_t queued_ns;          /* terminal: how long it waited, */
  int64_t first_token_ns;     /* from submission to the first token, */
  int64_t total_ns;           /* and to the end */
  const troupe_error *error;  /* FAILED and, when there is more to say, CANCELLED; else NULL */
  double progress;            /* PROGRESS */
  const float *data;          /* DONE of the tasks embed and encode_image: row-major */
  int64_t data_rows;
  int64_t data_columns;
} troupe_event;

/* What one wait returned. Events stand event_size bytes apart: TROUPE_EVENT knows. */
typedef struct troupe_events {
  uint32_t struct_size;
  uint32_t event_size;
  uint32_t count;
  uint32_t reserved;
  const troupe_event *events;
} troupe_events;

#define TROUPE_COUNT(list) ((list) ? (list)->count : 0)
#ifdef __cplusplus
#define TROUPE_EVENT(list, i)                                                          \
  (reinterpret_cast<const troupe_event *>(reinterpret_cast<const char *>((list)->events) + \
                                          static_cast<size_t>(i) * (list)->event_size))
#else
#define TROUPE_EVENT(list, i)                                                  \
  ((const troupe_event *)(const void *)((const char *)(list)->events + \
                                        (size_t)(i) * (list)->event_size))
#endif
#define TROUPE_IS_TERMINAL(kind) ((kind) >= TROUPE_EVENT_DONE && (kind) <= TROUPE_EVENT_FAILED)

TROUPE_API TROUPE_MUST_USE troupe_error *troupe_queue_new(troupe_queue **out);

/* For a thread for each request, each request with a queue of its own. The queues made from one
 * `other`, and from each other, take turns: threads that sleep on them are woken one after the
 * other, each when the one before waits again (or frees its queue), not all at once. Threads that
 * share a lock, like an interpreter's, then do not meet at it: an event costs them half. Who takes
 * longer than two milliseconds is no longer waited for, and from then on more are woken at once.
 * Nothing else differs: events that are there are taken at the latest when the timeout is over.
 * `other` itself takes no turns, unless it was made so, and may be freed first.
 *
 *     troupe_queue_new(&queue);
 *     for (int i = 0; i < n_threads; ++i) {          // each waits on its own
 *       troupe_queue_new_in_turn(queue, &job[i].queue);
 *       troupe_submit(engine, request, job[i].queue, 0, &job[i].id);
 *     }
 */
TROUPE_API TROUPE_MUST_USE troupe_error *troupe_queue_new_in_turn(troupe_queue *other,
                                                                  troupe_queue **out);

/* Free it after the waits on it have returned. Requests that still run keep running, unheard. */
TROUPE_API void troupe_queue_free(troupe_queue *queue);

/* Readable while, and only while, events are pending (or a wake is): use it with poll, epoll or an
 * asyncio reader, and never read from it or close it. -1 for NULL. */
TROUPE_API int troupe_queue_fd(const troupe_queue *queue);

/* Takes up to `max` events (0: as many as there are, at most 65,536), waiting `timeout_ns` for the
 * first one; 0 only looks, -1 waits for ever. *out is NULL when none came. Events of one request
 * come in order, whoever takes them. */
TROUPE_API TROUPE_MUST_USE troupe_error *troupe_queue_wait(troupe_queue *queue, int64_t timeout_ns,
                                                           uint32_t max, troupe_events **out);

/* Makes every wait in progress return; if there is none, the next one. */
TROUPE_API void troupe_queue_wake(troupe_queue *queue);

TROUPE_API void troupe_events_free(troupe_events *events);

/* ---- Engine -------------------------------------------------------------------------------------
 * An endpoint is one of
 *   a folder            a model as downloaded from the Hugging Face hub; runs in this process
 *   echo:               an engine that answers with the prompt; "echo:?step_ms=2" and its like in
 *                       docs/echo.md. It needs no model: tests and load tests use it
 *   tcp://host:port     a `troupe serve` elsewhere; same handle, same functions
 *   ipc://path          the same, on this machine
 *
 *     troupe_engine_options options;
 *     troupe_engine_options_init(&options, sizeof options);
 *     options.device = "cpu";
 *     options.context_length = 8192;
 *     troupe_error *error = troupe_engine_open("models/llama", &options, &engine);
 */
typedef struct troupe_engine_options {
  uint32_t struct_size;
  int32_t threads;           /* 1 .. 1024; default: what the cgroup and the affinity mask give */
  troupe_queue *queue;       /* given: open returns at once; PROGRESS, READY or FAILED follow */
  uint64_t user_data;        /* of these events */
  const char *device;        /* "auto", "cpu", "cuda", "cuda:0,1"; default "auto" */
  const char *dtype;         /* "auto", "f32", "f16", "bf16"; default "auto": as stored */
  const char *kv_dtype;      /* likewise; default "auto": as dtype */
  const char *load_format;   /* "auto", "dummy" (random weights); default "auto" */
  const char *chat_template; /* a name or a file; default: the folder's own, else its family's */
  int32_t tensor_parallel;   /* devices per replica, 1 .. 64; default 1 */
  int32_t max_sequences;     /* running at once, 1 .. 4096; default 256 */
  int32_t max_waiting;       /* 1 .. 1048576, then requests are refused with OVERLOADED; default
                                2048 */
  int32_t max_step_tokens;   /* rows of one step, 1 .. 65536; default: by device */
  int32_t context_length;    /* 1 .. 16777216; default: the model's own */
  int32_t block_tokens;      /* of a cache block, 1 .. 256; default: by device */
  int64_t kv_bytes;          /* >= 1; default: what is free; on a CPU at most 2x the weights */
  int64_t session_lease_ns;  /* >= 1; INT64_MAX: for ever; default 10 minutes */
  int64_t seed;              /* of dummy weights; default 0 (unset: TROUPE_UNSET) */
  int32_t prefix_reuse;      /* 0 or 1; default 1 */
  int32_t overlap;           /* 0 or 1; default 1. 0 gives the same tokens, more slowly */
  int32_t deterministic;     /* 0 or 1; default 0 */
  int32_t reserved;
  const char *const *settings; /* n_settings strings "key=value": as troupe_engine_set_option,
                                  before loading; an unknown key is refused */
  size_t n_settings;
  const char *library_dir;   /* where libtroupe_engine.so lies; default: beside this library */
  int64_t connect_timeout_ns; /* remote; >= 1; INT64_MAX: for ever; default 10 s (unset:
                                 TROUPE_UNSET) */
  const char *server_key;    /* remote: the server's CURVE public key, Z85; default: plaintext */
  const char *client_public_key; /* remote: this client's own pair; default: made anew */
  const char *client_secret_key;
} troupe_engine_options;

TROUPE_API void troupe_engine_options_init(troupe_engine_options *options, uint32_t struct_size);

/* Loads or connects; `options` may be NULL. With options.queue it returns at once, and the engine
 * answers OVERLOADED to everything but close and free until READY. */
TROUPE_API TROUPE_MUST_USE troupe_error *troupe_engine_open(const char *endpoint,
                                                            const troupe_engine_options *options,
                                                            troupe_engine **out);

/* Refuses new work, gives what runs `drain_ns` (-1: as long as it takes), cancels the rest; every
 * terminal event is in its queue when this returns. Idempotent; later calls on the engine, its
 * sessions and servers answer CLOSED. Of several that close one engine of this process at once, the
 * least patient counts: close with 0 ends a drain that is going on. */
TROUPE_API TROUPE_MUST_USE troupe_error *troupe_engine_close(troupe_engine *engine,
                                                             int64_t drain_ns);

/* Closes with drain 0 if it is open. Sessions and servers of it stay valid, and closed. */
TROUPE_API void troupe_engine_free(troupe_engine *engine);

/* Bits of troupe_info.capabilities. What is missing answers UNSUPPORTED by name. */
enum {
  TROUPE_CAN_CHAT = 1 << 0,         /* there is a chat template */
  TROUPE_CAN_TOOLS = 1 << 1,        /* and it knows tools */
  TROUPE_CAN_SEE_IMAGES = 1 << 2,
  TROUPE_CAN_TAKE_IMAGE_EMBEDDINGS = 1 << 3,
  TROUPE_CAN_ENCODE_IMAGES = 1 << 4, /* task encode_image */
  TROUPE_CAN_EMBED = 1 << 5,        /* task embed */
  TROUPE_CAN_SCORE = 1 << 6,        /* task score; prompt_logprobs */
  TROUPE_CAN_CONSTRAIN = 1 << 7,    /* troupe_request_constraint */
  TROUPE_CAN_KEEP_SESSIONS = 1 << 8,
  TROUPE_CAN_USE_ADAPTERS = 1 << 9,
  TROUPE_CAN_SERVE = 1 << 10        /* troupe_server_open */
};

/* Strings end in NUL, are never NULL, and live as long as the engine. */
typedef struct troupe_info {
  uint32_t struct_size; /* set it before the call */
  int32_t context_length;
  const char *model;    /* the last part of the endpoint's path */
  const char *family;   /* "llama", "qwen2", "echo" ... */
  const char *endpoint;
  const char *device;
  const char *dtype;
  const char *chat_template_origin; /* "" : there is none */
  const char *config_json;          /* the options in force */
  int32_t vocab_size;
  int32_t max_sequences;
  int32_t images_max;   /* of one request */
  int32_t reserved;
  int64_t image_pixels_max; /* of one image, before it is decoded */
  int64_t weight_bytes;
  int64_t kv_bytes;
  int64_t kv_tokens;    /* how many tokens the cache holds */
  uint64_t capabilities; /* TROUPE_CAN_... */
} troupe_info;

TROUPE_API TROUPE_MUST_USE troupe_error *troupe_engine_info(troupe_engine *engine,
                                                            troupe_info *out);

/* Counters since opening, and gauges. Cheap: ask once a second, or more. */
typedef struct troupe_stats {
  uint32_t struct_size; /* set it before the call */
  uint32_t waiting;     /* gauges: requests that wait, */
  uint32_t running;     /* that run, */
  uint32_t sessions;    /* sessions open */
  uint64_t submitted;   /* submitted == done + cancelled + failed + waiting + running */
  uint64_t refused;
  uint64_t done;
  uint64_t cancelled;
  uint64_t failed;
  uint64_t prompt_tokens;
  uint64_t cached_tokens;
  uint64_t completion_tokens;
  uint64_t images;
  uint64_t steps;
  uint64_t preemptions;
  uint64_t kv_blocks_total;
  uint64_t kv_blocks_used;
  int64_t step_last_ns;
  int64_t uptime_ns;
} troupe_stats;

TROUPE_API TROUPE_MUST_USE troupe_error *troupe_engine_stats(troupe_engine *engine,
                                                             troupe_stats *out);

/* The same and more, in Prometheus' text format. */
TROUPE_API TROUPE_MUST_USE troupe_error *troupe_engine_metrics(troupe_engine *engine,
                                                               troupe_bytes **out);

/* Experimental knobs that may vanish; what cannot be set on an open engine answers UNSUPPORTED. */
TROUPE_API TROUPE_MUST_USE troupe_error *troupe_engine_set_option(troupe_engine *engine,
                                                                  const char *key,
                                                                  const char *value);

/* What is in this folder and whether it fits, without loading it: one JSON object. */
TROUPE_API TROUPE_MUST_USE troupe_error *troupe_inspect(const char *endpoint,
                                                        const troupe_engine_options *options,
                                                        troupe_bytes **out_json);

/* ---- Text ---------------------------------------------------------------------------------------
 *
 *     troupe_bytes *ids;
 *     troupe_tokenize(engine, "hello", 5, TROUPE_TEXT_ADD_SPECIAL, &ids);
 *     const int32_t *token = ids->data;  size_t n_tokens = ids->size / 4;
 */
enum {
  TROUPE_TEXT_ADD_SPECIAL = 1 << 0,   /* tokenize: add what the model wants around text (BOS ...) */
  TROUPE_TEXT_PARSE_SPECIAL = 1 << 1, /* tokenize: "<|eot|>" in the text becomes that token */
  TROUPE_TEXT_SKIP_SPECIAL = 1 << 2   /* detokenize: leave special tokens out */
};

TROUPE_API TROUPE_MUST_USE troupe_error *troupe_tokenize(troupe_engine *engine, const char *text,
                                                         size_t size, uint32_t flags,
                                                         troupe_bytes **out_i32);
TROUPE_API TROUPE_MUST_USE troupe_error *troupe_detokenize(troupe_engine *engine,
                                                           const int32_t *tokens, size_t n_tokens,
                                                           uint32_t flags, troupe_bytes **out_utf8);

/* The prompt after the chat template, as text: to see what the model sees. */
TROUPE_API TROUPE_MUST_USE troupe_error *troupe_render(troupe_engine *engine,
                                                       const troupe_request *request,
                                                       troupe_bytes **out_utf8);

/* ---- Request ------------------------------------------------------------------------------------
 * A builder: fill it, submit it as often as you like, change it in between, free it whenever.
 * The prompt is raw (parts only), or chat (messages with parts, or OpenAI's JSON); not a mixture.
 *
 *     troupe_request_message(request, TROUPE_ROLE_USER);       // chat: parts follow
 *     troupe_request_text(request, "What is this? ", 14);
 *     troupe_image image;
 *     troupe_image_init(&image, sizeof image);
 *     image.data = jpeg; image.size = jpeg_size;
 *     troupe_request_image(request, &image);
 */
enum {
  TROUPE_ROLE_SYSTEM = 0,
  TROUPE_ROLE_USER = 1,
  TROUPE_ROLE_ASSISTANT = 2,
  TROUPE_ROLE_TOOL = 3
};

TROUPE_API TROUPE_MUST_USE troupe_error *troupe_request_new(troupe_request **out);
TROUPE_API void troupe_request_free(troupe_request *request);

/* Back to how troupe_request_new left it. */
TROUPE_API TROUPE_MUST_USE troupe_error *troupe_request_clear(troupe_request *request);

/* Begins a message: the parts that follow belong to it. */
TROUPE_API TROUPE_MUST_USE troupe_error *troupe_request_message(troupe_request *request,
                                                                int32_t role);

/* Parts, in the order of the prompt. Text that is not UTF-8 is refused with the offset. */
TROUPE_API TROUPE_MUST_USE troupe_error *troupe_request_text(troupe_request *request,
                                                             const char *text, size_t size);
TROUPE_API TROUPE_MUST_USE troupe_error *troupe_request_tokens(troupe_request *request,
                                                               const int32_t *tokens,
                                                               size_t n_tokens);

enum {
  TROUPE_IMAGE_ENCODED = 0,  /* the bytes of a JPEG, PNG or WebP file */
  TROUPE_IMAGE_PIXELS = 1,   /* 8 bits per channel */
  TROUPE_IMAGE_EMBEDDING = 2 /* rows x hidden, as the model's projector gives them */
};
enum {
  TROUPE_PIXELS_RGB = 0,
  TROUPE_PIXELS_RGBA = 1,
  TROUPE_PIXELS_BGR = 2,
  TROUPE_PIXELS_BGRA = 3,
  TROUPE_PIXELS_GREY = 4
};
enum { TROUPE_LAYOUT_HWC = 0, TROUPE_LAYOUT_CHW = 1 };
enum { TROUPE_TYPE_F16 = 0, TROUPE_TYPE_BF16 = 1, TROUPE_TYPE_F32 = 2 };

typedef struct troupe_image {
  uint32_t struct_size;
  int32_t kind;       /* TROUPE_IMAGE_...; default ENCODED */
  const void *data;
  size_t size;        /* in bytes */
  int32_t width;      /* PIXELS */
  int32_t height;
  int32_t format;     /* TROUPE_PIXELS_...; default RGB */
  int32_t layout;     /* TROUPE_LAYOUT_...; default HWC */
  int64_t row_stride; /* bytes from one row to the next (of one channel, in CHW); default: dense */
  int32_t rows;       /* EMBEDDING */
  int32_t hidden;
  int32_t type;       /* TROUPE_TYPE_...; default F16 */
  int32_t grid[3];    /* time, height, width in merged patches, for models that rotate by them;
                         default: not given */
  void (*release)(void *release_user); /* given: `data` is not copied but stays yours until this is
                         called, once, on any thread; it must not call this API. When
                         troupe_request_image fails it is not called. */
  void *release_user;
} troupe_image;

TROUPE_API void troupe_image_init(troupe_image *image, uint32_t struct_size);

/* The next part of the prompt; beside troupe_request_messages, the next of the images to which its
 * image parts refer. */
TROUPE_API TROUPE_MUST_USE troupe_error *troupe_request_image(troupe_request *request,
                                                              const troupe_image *image);

/* A whole chat as OpenAI's "messages" array: strings or lists of parts as content, tool_calls,
 * tool_call_id, name. An image part is {"type": "image", "index": 0}, the first image given by
 * troupe_request_image, or {"type": "image"}: the next one. URLs are never fetched. */
TROUPE_API TROUPE_MUST_USE troupe_error *troupe_request_messages(troupe_request *request,
                                                                 const char *json, size_t size);
/* OpenAI's "tools" array; the documents array and further variables of the chat template. */
TROUPE_API TROUPE_MUST_USE troupe_error *troupe_request_tools(troupe_request *request,
                                                              const char *json, size_t size);
TROUPE_API TROUPE_MUST_USE troupe_error *troupe_request_documents(troupe_request *request,
                                                                  const char *json, size_t size);
TROUPE_API TROUPE_MUST_USE troupe_error *troupe_request_template_kwargs(troupe_request *request,
                                                                        const char *json,
                                                                        size_t size);

/* How to draw tokens. Applied in this order: logit bias, bad words, constraint; repetition penalty
 * (prompt and output), presence and frequency penalties (output); temperature; top-k; top-p; min-p.
 * A draw depends on seed, choice and position alone, never on what else runs.
 *
 *     troupe_sampling sampling;
 *     troupe_sampling_init(&sampling, sizeof sampling);
 *     sampling.temperature = 0.7f;
 *     sampling.max_tokens = 256;
 *     troupe_request_sampling(request, &sampling);
 */
typedef struct troupe_sampling {
  uint32_t struct_size;
  float temperature;        /* 0 .. 1000; 0 takes the likeliest; default 1 */
  float top_p;              /* (0, 1]; default 1 */
  float min_p;              /* [0, 1]; default 0 */
  float repetition_penalty; /* 0.001 .. 1000; default 1 */
  float presence_penalty;   /* -2 .. 2; default 0 */
  float frequency_penalty;  /* -2 .. 2; default 0 */
  int32_t top_k;            /* >= 0; 0 is no limit; default 0 */
  int64_t seed;             /* default (TROUPE_UNSET): drawn anew for every request */
  int32_t max_tokens;       /* >= 0; default: what the context leaves */
  int32_t min_tokens;       /* >= 0; default 0 */
  int32_t n;                /* choices, 1 .. 128; default 1 */
  int32_t logprobs;         /* alternatives per token, 0 .. 64; 0: the chosen one's alone; default: none */
  int32_t prompt_logprobs;  /* likewise, of the prompt's tokens */
  int32_t ignore_eos;       /* 0 or 1; default 0 */
  int32_t include_stop;     /* 0 or 1: leave the stop string in the text; default 0 */
  int32_t skip_special_tokens; /* 0 or 1: in the text; default 1 */
  const char *const *stop;  /* n_stop strings that end a choice */
  size_t n_stop;
  const int32_t *stop_tokens;
  size_t n_stop_tokens;
  const char *const *bad_words; /* never said */
  size_t n_bad_words;
  const int32_t *bias_tokens;   /* n_bias tokens, and what is added to the logit of each: -INFINITY, or
                                   within 1e30; where no token is left to draw the request fails */
  const float *bias_values;
  size_t n_bias;
} troupe_sampling;

TROUPE_API void troupe_sampling_init(troupe_sampling *sampling, uint32_t struct_size);
TROUPE_API TROUPE_MUST_USE troupe_error *troupe_request_sampling(troupe_request *request,
                                                                 const troupe_sampling *sampling);

enum {
  TROUPE_CONSTRAINT_NONE = 0,
  TROUPE_CONSTRAINT_JSON_SCHEMA = 1,
  TROUPE_CONSTRAINT_REGEX = 2,
  TROUPE_CONSTRAINT_EBNF = 3,
  TROUPE_CONSTRAINT_CHOICE = 4 /* a JSON array of strings */
};
/* The answer matches this. Engines without TROUPE_CAN_CONSTRAIN refuse it when it is submitted. */
TROUPE_API TROUPE_MUST_USE troupe_error *troupe_request_constraint(troupe_request *request,
                                                                   int32_t kind, const char *text,
                                                                   size_t size);

/* The prompt continues what the session holds, and the session then holds prompt and answer. */
TROUPE_API TROUPE_MUST_USE troupe_error *troupe_request_session(troupe_request *request,
                                                                troupe_session *session);

/* The rest, by name; an unknown key answers INVALID and names the nearest known one.
 *   task                   generate | score | embed | encode_image         (generate)
 *   deadline_ms            from submission, 1 .. 31536000000 (a year)      (none)
 *   priority               higher runs first, -100 .. 100                  (0)
 *   adapter                name of a LoRA adapter                          (none)
 *   client                 tenant: its prefixes are shared with no other   (none)
 *   add_generation_prompt  0 | 1, chat: let the assistant speak next       (1)
 *   add_special_tokens     0 | 1, raw prompts: BOS and its like            (1)
 * Score: no token is made and prompt_logprobs come (0 if not set). */
TROUPE_API TROUPE_MUST_USE troupe_error *troupe_request_option(troupe_request *request,
                                                               const char *key, const char *value);

/* ---- Run ----------------------------------------------------------------------------------------
 *
 *     uint64_t id;
 *     troupe_error *error = troupe_submit(engine, request, queue, my_key, &id);
 *     ...
 *     troupe_cancel(engine, id);   // CANCELLED arrives, or DONE if that was quicker
 */

/* Accepts or refuses at once; never waits for the model. A remote engine asks its server: for no
 * longer than the request's timeout, nor than 2 s with a server that says nothing. Accepted: events
 * carry *out_id (out_id may be NULL) and user_data, and the first may arrive before this returns. */
TROUPE_API TROUPE_MUST_USE troupe_error *troupe_submit(troupe_engine *engine,
                                                       const troupe_request *request,
                                                       troupe_queue *queue, uint64_t user_data,
                                                       uint64_t *out_id);

/* Idempotent; ids that are unknown or finished are ignored. The terminal event still comes. */
TROUPE_API void troupe_cancel(troupe_engine *engine, uint64_t id);

/* ---- Session ------------------------------------------------------------------------------------
 * A conversation whose work is kept: each request continues it. It pins content, not memory: when
 * the cache is full its blocks may go and are made again. Prefixes are shared between all
 * requests anyway: sessions are for pinning, forking and rewinding.
 *
 *     troupe_session_new(engine, NULL, &session);
 *     ... submit with troupe_request_session(request, session), wait for DONE ...
 *     troupe_session_fork(session, &other);   // two ways to go on from here
 */
typedef struct troupe_session_options {
  uint32_t struct_size;
  int32_t reserved;
  int64_t lease_ns; /* >= 1: unused for that long, it ends; INT64_MAX: never; default: the
                       engine's (unset: TROUPE_UNSET) */
} troupe_session_options;

typedef struct troupe_session_state {
  uint32_t struct_size; /* set it before the call */
  int32_t reserved;
  int64_t tokens;        /* in the conversation */
  int64_t cached_tokens; /* of these, those whose work is in the cache now */
  int64_t lease_left_ns;
} troupe_session_state;

TROUPE_API void troupe_session_options_init(troupe_session_options *options, uint32_t struct_size);
TROUPE_API TROUPE_MUST_USE troupe_error *troupe_session_new(troupe_engine *engine,
                                                            const troupe_session_options *options,
                                                            troupe_session **out);
TROUPE_API TROUPE_MUST_USE troupe_error *troupe_session_fork(troupe_session *session,
                                                             troupe_session **out);
/* Forgets all but the first `tokens` tokens. */
TROUPE_API TROUPE_MUST_USE troupe_error *troupe_session_rewind(troupe_session *session,
                                                               int64_t tokens);
TROUPE_API TROUPE_MUST_USE troupe_error *troupe_session_info(troupe_session *session,
                                                             troupe_session_state *out);
TROUPE_API void troupe_session_free(troupe_session *session); /* requests in it run on */

/* ---- Serve --------------------------------------------------------------------------------------
 * Lets others reach a local engine over the wire protocol (docs/protocol.md).
 *
 *     troupe_server_open(engine, "tcp://127.0.0.1:5577", NULL, &server);
 */
typedef struct troupe_server_options {
  uint32_t struct_size;
  int32_t allow_plaintext;  /* 0 or 1: bind beyond loopback without keys; default 0 */
  const char *public_key;   /* the server's CURVE pair, Z85; default: plaintext */
  const char *secret_key;
  const char *client_keys;  /* file with one allowed client key per line; default: any client */
  int64_t resume_window_ns; /* how long answers wait for a lost client, 0 to 7 days: more is 7 days;
                               default 60 s (unset: TROUPE_UNSET) */
  const char *const *settings; /* n_settings strings "key=value", the limits of one client among
                                  them: docs/protocol.md lists all; an unknown key is refused */
  size_t n_settings;
} troupe_server_options;

TROUPE_API void troupe_server_options_init(troupe_server_options *options, uint32_t struct_size);
TROUPE_API TROUPE_MUST_USE troupe_error *troupe_server_open(troupe_engine *engine, const char *bind,
                                                            const troupe_server_options *options,
                                                            troupe_server **out);

/* Where it listens, with the port that was chosen; "" for NULL. Lives as long as the server. */
TROUPE_API const char *troupe_server_endpoint(const troupe_server *server);

/* Tells every client that it stops, takes nothing new, gives what runs `drain_ns` (-1: as long as it
 * takes), cancels the rest and says goodbye. Idempotent; the engine stays open. */
TROUPE_API TROUPE_MUST_USE troupe_error *troupe_server_close(troupe_server *server,
                                                             int64_t drain_ns);

/* Closes with drain 0 if it is open. */
TROUPE_API void troupe_server_free(troupe_server *server);

/* A new CURVE pair in Z85, each TROUPE_KEY_SIZE bytes with the NUL at their end: for a server, or
 * for one client, whose public half goes into the server's client_keys. */
#define TROUPE_KEY_SIZE 41
TROUPE_API TROUPE_MUST_USE troupe_error *troupe_keygen(char *public_key, char *secret_key);

#ifdef __cplusplus
}
#endif
#endif
