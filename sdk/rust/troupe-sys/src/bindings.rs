// Generated from troupe.h by make_bindings.py: do not edit.

use core::ffi::{c_char, c_int, c_void};

pub const TROUPE_KEY_SIZE: usize = 41;

#[repr(C)]
pub struct troupe_engine {
    _private: [u8; 0],
}

#[repr(C)]
pub struct troupe_queue {
    _private: [u8; 0],
}

#[repr(C)]
pub struct troupe_request {
    _private: [u8; 0],
}

#[repr(C)]
pub struct troupe_session {
    _private: [u8; 0],
}

#[repr(C)]
pub struct troupe_server {
    _private: [u8; 0],
}

#[repr(C)]
pub struct troupe_error {
    _private: [u8; 0],
}

pub const TROUPE_OK: i32 = 0;
pub const TROUPE_ERROR_INVALID: i32 = 1;
pub const TROUPE_ERROR_LIMIT: i32 = 2;
pub const TROUPE_ERROR_OVERLOADED: i32 = 3;
pub const TROUPE_ERROR_DEADLINE: i32 = 4;
pub const TROUPE_ERROR_CANCELLED: i32 = 5;
pub const TROUPE_ERROR_NOT_FOUND: i32 = 6;
pub const TROUPE_ERROR_UNSUPPORTED: i32 = 7;
pub const TROUPE_ERROR_CORRUPT_MODEL: i32 = 8;
pub const TROUPE_ERROR_OUT_OF_MEMORY: i32 = 9;
pub const TROUPE_ERROR_DEVICE_FAILED: i32 = 10;
pub const TROUPE_ERROR_CONNECTION_LOST: i32 = 11;
pub const TROUPE_ERROR_CLOSED: i32 = 12;
pub const TROUPE_ERROR_FORKED: i32 = 13;
pub const TROUPE_ERROR_UNAUTHORISED: i32 = 14;
pub const TROUPE_ERROR_INTERNAL: i32 = 15;

pub const TROUPE_LOG_TRACE: i32 = 0;
pub const TROUPE_LOG_DEBUG: i32 = 1;
pub const TROUPE_LOG_INFO: i32 = 2;
pub const TROUPE_LOG_WARN: i32 = 3;
pub const TROUPE_LOG_ERROR: i32 = 4;
pub const TROUPE_LOG_OFF: i32 = 5;

pub type troupe_log_fn = Option<unsafe extern "C" fn(user: *mut c_void, level: i32, message: *const c_char, size: usize)>;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct troupe_bytes {
    pub struct_size: u32,
    pub reserved: u32,
    pub data: *const c_void,
    pub size: usize,
}

pub const TROUPE_EVENT_READY: i32 = 0;
pub const TROUPE_EVENT_ADMITTED: i32 = 1;
pub const TROUPE_EVENT_TOKENS: i32 = 2;
pub const TROUPE_EVENT_DONE: i32 = 3;
pub const TROUPE_EVENT_CANCELLED: i32 = 4;
pub const TROUPE_EVENT_FAILED: i32 = 5;
pub const TROUPE_EVENT_PROGRESS: i32 = 6;

pub const TROUPE_FINISH_NONE: i32 = 0;
pub const TROUPE_FINISH_STOP: i32 = 1;
pub const TROUPE_FINISH_LENGTH: i32 = 2;
pub const TROUPE_FINISH_CANCELLED: i32 = 3;
pub const TROUPE_FINISH_ERROR: i32 = 4;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct troupe_logprob {
    pub token: i32,
    pub logprob: f32,
    pub rank: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct troupe_logprob_table {
    pub struct_size: u32,
    pub entry_size: u32,
    pub n_rows: usize,
    pub row_starts: *const usize,
    pub entries: *const troupe_logprob,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct troupe_event {
    pub struct_size: u32,
    pub kind: i32,
    pub id: u64,
    pub user_data: u64,
    pub index: i32,
    pub finish_reason: i32,
    pub from: i64,
    pub tokens: *const i32,
    pub n_tokens: usize,
    pub text: *const c_char,
    pub text_size: usize,
    pub logprobs: *const f32,
    pub top_logprobs: *const troupe_logprob_table,
    pub prompt_logprobs: *const troupe_logprob_table,
    pub stop_token: i32,
    pub reserved: i32,
    pub stop_text: *const c_char,
    pub stop_text_size: usize,
    pub prompt_tokens: i64,
    pub cached_tokens: i64,
    pub completion_tokens: i64,
    pub image_tokens: i64,
    pub queued_ns: i64,
    pub first_token_ns: i64,
    pub total_ns: i64,
    pub error: *const troupe_error,
    pub progress: f64,
    pub data: *const f32,
    pub data_rows: i64,
    pub data_columns: i64,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct troupe_events {
    pub struct_size: u32,
    pub event_size: u32,
    pub count: u32,
    pub reserved: u32,
    pub events: *const troupe_event,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct troupe_engine_options {
    pub struct_size: u32,
    pub threads: i32,
    pub queue: *mut troupe_queue,
    pub user_data: u64,
    pub device: *const c_char,
    pub dtype: *const c_char,
    pub kv_dtype: *const c_char,
    pub load_format: *const c_char,
    pub chat_template: *const c_char,
    pub tensor_parallel: i32,
    pub max_sequences: i32,
    pub max_waiting: i32,
    pub max_step_tokens: i32,
    pub context_length: i32,
    pub block_tokens: i32,
    pub kv_bytes: i64,
    pub session_lease_ns: i64,
    pub seed: i64,
    pub prefix_reuse: i32,
    pub overlap: i32,
    pub deterministic: i32,
    pub reserved: i32,
    pub settings: *const *const c_char,
    pub n_settings: usize,
    pub library_dir: *const c_char,
    pub connect_timeout_ns: i64,
    pub server_key: *const c_char,
    pub client_public_key: *const c_char,
    pub client_secret_key: *const c_char,
}

pub const TROUPE_CAN_CHAT: i32 = 1 << 0;
pub const TROUPE_CAN_TOOLS: i32 = 1 << 1;
pub const TROUPE_CAN_SEE_IMAGES: i32 = 1 << 2;
pub const TROUPE_CAN_TAKE_IMAGE_EMBEDDINGS: i32 = 1 << 3;
pub const TROUPE_CAN_ENCODE_IMAGES: i32 = 1 << 4;
pub const TROUPE_CAN_EMBED: i32 = 1 << 5;
pub const TROUPE_CAN_SCORE: i32 = 1 << 6;
pub const TROUPE_CAN_CONSTRAIN: i32 = 1 << 7;
pub const TROUPE_CAN_KEEP_SESSIONS: i32 = 1 << 8;
pub const TROUPE_CAN_USE_ADAPTERS: i32 = 1 << 9;
pub const TROUPE_CAN_SERVE: i32 = 1 << 10;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct troupe_info {
    pub struct_size: u32,
    pub context_length: i32,
    pub model: *const c_char,
    pub family: *const c_char,
    pub endpoint: *const c_char,
    pub device: *const c_char,
    pub dtype: *const c_char,
    pub chat_template_origin: *const c_char,
    pub config_json: *const c_char,
    pub vocab_size: i32,
    pub max_sequences: i32,
    pub images_max: i32,
    pub reserved: i32,
    pub image_pixels_max: i64,
    pub weight_bytes: i64,
    pub kv_bytes: i64,
    pub kv_tokens: i64,
    pub capabilities: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct troupe_stats {
    pub struct_size: u32,
    pub waiting: u32,
    pub running: u32,
    pub sessions: u32,
    pub submitted: u64,
    pub refused: u64,
    pub done: u64,
    pub cancelled: u64,
    pub failed: u64,
    pub prompt_tokens: u64,
    pub cached_tokens: u64,
    pub completion_tokens: u64,
    pub images: u64,
    pub steps: u64,
    pub preemptions: u64,
    pub kv_blocks_total: u64,
    pub kv_blocks_used: u64,
    pub step_last_ns: i64,
    pub uptime_ns: i64,
}

pub const TROUPE_TEXT_ADD_SPECIAL: i32 = 1 << 0;
pub const TROUPE_TEXT_PARSE_SPECIAL: i32 = 1 << 1;
pub const TROUPE_TEXT_SKIP_SPECIAL: i32 = 1 << 2;

pub const TROUPE_ROLE_SYSTEM: i32 = 0;
pub const TROUPE_ROLE_USER: i32 = 1;
pub const TROUPE_ROLE_ASSISTANT: i32 = 2;
pub const TROUPE_ROLE_TOOL: i32 = 3;

pub const TROUPE_IMAGE_ENCODED: i32 = 0;
pub const TROUPE_IMAGE_PIXELS: i32 = 1;
pub const TROUPE_IMAGE_EMBEDDING: i32 = 2;

pub const TROUPE_PIXELS_RGB: i32 = 0;
pub const TROUPE_PIXELS_RGBA: i32 = 1;
pub const TROUPE_PIXELS_BGR: i32 = 2;
pub const TROUPE_PIXELS_BGRA: i32 = 3;
pub const TROUPE_PIXELS_GREY: i32 = 4;

pub const TROUPE_LAYOUT_HWC: i32 = 0;
pub const TROUPE_LAYOUT_CHW: i32 = 1;

pub const TROUPE_TYPE_F16: i32 = 0;
pub const TROUPE_TYPE_BF16: i32 = 1;
pub const TROUPE_TYPE_F32: i32 = 2;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct troupe_image {
    pub struct_size: u32,
    pub kind: i32,
    pub data: *const c_void,
    pub size: usize,
    pub width: i32,
    pub height: i32,
    pub format: i32,
    pub layout: i32,
    pub row_stride: i64,
    pub rows: i32,
    pub hidden: i32,
    pub type_: i32,
    pub grid: [i32; 3],
    pub release: Option<unsafe extern "C" fn(release_user: *mut c_void)>,
    pub release_user: *mut c_void,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct troupe_sampling {
    pub struct_size: u32,
    pub temperature: f32,
    pub top_p: f32,
    pub min_p: f32,
    pub repetition_penalty: f32,
    pub presence_penalty: f32,
    pub frequency_penalty: f32,
    pub top_k: i32,
    pub seed: i64,
    pub max_tokens: i32,
    pub min_tokens: i32,
    pub n: i32,
    pub logprobs: i32,
    pub prompt_logprobs: i32,
    pub ignore_eos: i32,
    pub include_stop: i32,
    pub skip_special_tokens: i32,
    pub stop: *const *const c_char,
    pub n_stop: usize,
    pub stop_tokens: *const i32,
    pub n_stop_tokens: usize,
    pub bad_words: *const *const c_char,
    pub n_bad_words: usize,
    pub bias_tokens: *const i32,
    pub bias_values: *const f32,
    pub n_bias: usize,
}

pub const TROUPE_CONSTRAINT_NONE: i32 = 0;
pub const TROUPE_CONSTRAINT_JSON_SCHEMA: i32 = 1;
pub const TROUPE_CONSTRAINT_REGEX: i32 = 2;
pub const TROUPE_CONSTRAINT_EBNF: i32 = 3;
pub const TROUPE_CONSTRAINT_CHOICE: i32 = 4;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct troupe_session_options {
    pub struct_size: u32,
    pub reserved: i32,
    pub lease_ns: i64,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct troupe_session_state {
    pub struct_size: u32,
    pub reserved: i32,
    pub tokens: i64,
    pub cached_tokens: i64,
    pub lease_left_ns: i64,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct troupe_server_options {
    pub struct_size: u32,
    pub allow_plaintext: i32,
    pub public_key: *const c_char,
    pub secret_key: *const c_char,
    pub client_keys: *const c_char,
    pub resume_window_ns: i64,
    pub settings: *const *const c_char,
    pub n_settings: usize,
}

extern "C" {
    pub fn troupe_version() -> u32;
    pub fn troupe_version_string() -> *const c_char;
    pub fn troupe_sizeof(struct_name: *const c_char) -> u32;
    pub fn troupe_error_code(error: *const troupe_error) -> i32;
    pub fn troupe_error_retryable(error: *const troupe_error) -> i32;
    pub fn troupe_error_message(error: *const troupe_error) -> *const c_char;
    pub fn troupe_error_free(error: *mut troupe_error);
    pub fn troupe_error_name(code: i32) -> *const c_char;
    pub fn troupe_log_set(level: i32, fn_: troupe_log_fn, user: *mut c_void);
    pub fn troupe_bytes_free(bytes: *mut troupe_bytes);
    pub fn troupe_queue_new(out: *mut *mut troupe_queue) -> *mut troupe_error;
    pub fn troupe_queue_new_in_turn(other: *mut troupe_queue, out: *mut *mut troupe_queue) -> *mut troupe_error;
    pub fn troupe_queue_free(queue: *mut troupe_queue);
    pub fn troupe_queue_fd(queue: *const troupe_queue) -> c_int;
    pub fn troupe_queue_wait(queue: *mut troupe_queue, timeout_ns: i64, max: u32, out: *mut *mut troupe_events) -> *mut troupe_error;
    pub fn troupe_queue_wake(queue: *mut troupe_queue);
    pub fn troupe_events_free(events: *mut troupe_events);
    pub fn troupe_engine_options_init(options: *mut troupe_engine_options, struct_size: u32);
    pub fn troupe_engine_open(endpoint: *const c_char, options: *const troupe_engine_options, out: *mut *mut troupe_engine) -> *mut troupe_error;
    pub fn troupe_engine_close(engine: *mut troupe_engine, drain_ns: i64) -> *mut troupe_error;
    pub fn troupe_engine_free(engine: *mut troupe_engine);
    pub fn troupe_engine_info(engine: *mut troupe_engine, out: *mut troupe_info) -> *mut troupe_error;
    pub fn troupe_engine_stats(engine: *mut troupe_engine, out: *mut troupe_stats) -> *mut troupe_error;
    pub fn troupe_engine_metrics(engine: *mut troupe_engine, out: *mut *mut troupe_bytes) -> *mut troupe_error;
    pub fn troupe_engine_set_option(engine: *mut troupe_engine, key: *const c_char, value: *const c_char) -> *mut troupe_error;
    pub fn troupe_inspect(endpoint: *const c_char, options: *const troupe_engine_options, out_json: *mut *mut troupe_bytes) -> *mut troupe_error;
    pub fn troupe_tokenize(engine: *mut troupe_engine, text: *const c_char, size: usize, flags: u32, out_i32: *mut *mut troupe_bytes) -> *mut troupe_error;
    pub fn troupe_detokenize(engine: *mut troupe_engine, tokens: *const i32, n_tokens: usize, flags: u32, out_utf8: *mut *mut troupe_bytes) -> *mut troupe_error;
    pub fn troupe_render(engine: *mut troupe_engine, request: *const troupe_request, out_utf8: *mut *mut troupe_bytes) -> *mut troupe_error;
    pub fn troupe_request_new(out: *mut *mut troupe_request) -> *mut troupe_error;
    pub fn troupe_request_free(request: *mut troupe_request);
    pub fn troupe_request_clear(request: *mut troupe_request) -> *mut troupe_error;
    pub fn troupe_request_message(request: *mut troupe_request, role: i32) -> *mut troupe_error;
    pub fn troupe_request_text(request: *mut troupe_request, text: *const c_char, size: usize) -> *mut troupe_error;
    pub fn troupe_request_tokens(request: *mut troupe_request, tokens: *const i32, n_tokens: usize) -> *mut troupe_error;
    pub fn troupe_image_init(image: *mut troupe_image, struct_size: u32);
    pub fn troupe_request_image(request: *mut troupe_request, image: *const troupe_image) -> *mut troupe_error;
    pub fn troupe_request_messages(request: *mut troupe_request, json: *const c_char, size: usize) -> *mut troupe_error;
    pub fn troupe_request_tools(request: *mut troupe_request, json: *const c_char, size: usize) -> *mut troupe_error;
    pub fn troupe_request_documents(request: *mut troupe_request, json: *const c_char, size: usize) -> *mut troupe_error;
    pub fn troupe_request_template_kwargs(request: *mut troupe_request, json: *const c_char, size: usize) -> *mut troupe_error;
    pub fn troupe_sampling_init(sampling: *mut troupe_sampling, struct_size: u32);
    pub fn troupe_request_sampling(request: *mut troupe_request, sampling: *const troupe_sampling) -> *mut troupe_error;
    pub fn troupe_request_constraint(request: *mut troupe_request, kind: i32, text: *const c_char, size: usize) -> *mut troupe_error;
    pub fn troupe_request_session(request: *mut troupe_request, session: *mut troupe_session) -> *mut troupe_error;
    pub fn troupe_request_option(request: *mut troupe_request, key: *const c_char, value: *const c_char) -> *mut troupe_error;
    pub fn troupe_submit(engine: *mut troupe_engine, request: *const troupe_request, queue: *mut troupe_queue, user_data: u64, out_id: *mut u64) -> *mut troupe_error;
    pub fn troupe_cancel(engine: *mut troupe_engine, id: u64);
    pub fn troupe_session_options_init(options: *mut troupe_session_options, struct_size: u32);
    pub fn troupe_session_new(engine: *mut troupe_engine, options: *const troupe_session_options, out: *mut *mut troupe_session) -> *mut troupe_error;
    pub fn troupe_session_fork(session: *mut troupe_session, out: *mut *mut troupe_session) -> *mut troupe_error;
    pub fn troupe_session_rewind(session: *mut troupe_session, tokens: i64) -> *mut troupe_error;
    pub fn troupe_session_info(session: *mut troupe_session, out: *mut troupe_session_state) -> *mut troupe_error;
    pub fn troupe_session_free(session: *mut troupe_session);
    pub fn troupe_server_options_init(options: *mut troupe_server_options, struct_size: u32);
    pub fn troupe_server_open(engine: *mut troupe_engine, bind: *const c_char, options: *const troupe_server_options, out: *mut *mut troupe_server) -> *mut troupe_error;
    pub fn troupe_server_endpoint(server: *const troupe_server) -> *const c_char;
    pub fn troupe_server_close(server: *mut troupe_server, drain_ns: i64) -> *mut troupe_error;
    pub fn troupe_server_free(server: *mut troupe_server);
    pub fn troupe_keygen(public_key: *mut c_char, secret_key: *mut c_char) -> *mut troupe_error;
}

/// Every struct with its size, to compare with `troupe_sizeof`.
pub const STRUCT_SIZES: &[(&str, usize)] = &[
    ("troupe_bytes", core::mem::size_of::<troupe_bytes>()),
    ("troupe_logprob", core::mem::size_of::<troupe_logprob>()),
    ("troupe_logprob_table", core::mem::size_of::<troupe_logprob_table>()),
    ("troupe_event", core::mem::size_of::<troupe_event>()),
    ("troupe_events", core::mem::size_of::<troupe_events>()),
    ("troupe_engine_options", core::mem::size_of::<troupe_engine_options>()),
    ("troupe_info", core::mem::size_of::<troupe_info>()),
    ("troupe_stats", core::mem::size_of::<troupe_stats>()),
    ("troupe_image", core::mem::size_of::<troupe_image>()),
    ("troupe_sampling", core::mem::size_of::<troupe_sampling>()),
    ("troupe_session_options", core::mem::size_of::<troupe_session_options>()),
    ("troupe_session_state", core::mem::size_of::<troupe_session_state>()),
    ("troupe_server_options", core::mem::size_of::<troupe_server_options>()),
];
