//! The engine: opening, asking, closing.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::future::Future;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{mpsc, Arc, Mutex, OnceLock, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use troupe_sys as sys;

use crate::error::{check, Code, Error};
use crate::mailbox::Mailbox;
use crate::off_thread::off_thread;
use crate::raw::{take_bytes, RawEngine, RawQueue};
use crate::reader::{Opening, Reader};
use crate::request::Request;
use crate::server::{Server, ServerOptions};
use crate::session::Session;
use crate::stream::Stream;
use crate::types::{Answer, Info, Stats};

/// How an engine is opened; `Default` is right for most.
#[derive(Default)]
#[allow(missing_docs)]
pub struct Options {
    /// auto, cpu, cpu:N, cuda, cuda:0,1
    pub device: Option<String>,
    pub dtype: Option<String>,
    pub kv_dtype: Option<String>,
    /// auto, or dummy: seeded random weights
    pub load_format: Option<String>,
    /// A name or a file.
    pub chat_template: Option<String>,
    pub threads: Option<i32>,
    pub tensor_parallel: Option<i32>,
    pub max_sequences: Option<i32>,
    pub max_waiting: Option<i32>,
    pub max_step_tokens: Option<i32>,
    pub context_length: Option<i32>,
    pub block_tokens: Option<i32>,
    pub kv_bytes: Option<i64>,
    /// Of dummy weights.
    pub seed: Option<i64>,
    pub prefix_reuse: Option<bool>,
    pub overlap: Option<bool>,
    pub deterministic: Option<bool>,
    /// key=value: experimental settings
    pub settings: Vec<String>,
    pub server_key: Option<String>,
    pub client_public_key: Option<String>,
    pub client_secret_key: Option<String>,
    pub connect_timeout: Option<Duration>,
    /// Hears of loading: a phase and a fraction.
    #[allow(clippy::type_complexity)]
    pub progress: Option<Box<dyn FnMut(&str, f64) + Send>>,
}

/// What streams share with their engine; freed with the last of them.
pub(crate) struct Shared {
    engine: OnceLock<RawEngine>,
    reader: Arc<Reader>,
    keys: AtomicU64,
    closed: RwLock<bool>,
}

impl Shared {
    fn raw(&self) -> *mut sys::troupe_engine {
        self.engine.get().map_or(ptr::null_mut(), RawEngine::get)
    }

    pub(crate) fn abandon(&self, id: u64, key: u64) {
        self.reader.forget(key);
        self.cancel(id);
    }

    pub(crate) fn cancel(&self, id: u64) {
        // SAFETY: the engine is freed with self; cancelling an id that has ended does nothing.
        unsafe { sys::troupe_cancel(self.raw(), id) }
    }
}

/// A model, here or elsewhere. Cheap to share behind an `Arc`; closed when dropped.
pub struct Engine {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

fn check_sizes() -> Result<(), Error> {
    for (name, size) in sys::STRUCT_SIZES {
        let name = CString::new(*name).expect("names are ours");
        // SAFETY: the name ends in NUL.
        let theirs = unsafe { sys::troupe_sizeof(name.as_ptr()) } as usize;
        if theirs != 0 && theirs < *size {
            return Err(Error::new(Code::Unsupported, format!("the library's {name:?} has {theirs} bytes, this crate was made for {size}: the library is older than the crate")));
        }
    }
    Ok(())
}

/// As the library counts time; what does not fit is for ever.
pub(crate) fn nanoseconds(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

pub(crate) fn c_string(value: &str, field: &str) -> Result<CString, Error> {
    CString::new(value).map_err(|e| Error::because(Code::Invalid, format!("{field}: has a NUL character"), e))
}

impl Engine {
    /// Opens a model folder, `echo:` or tcp://host:port, and returns when it serves.
    pub fn open(endpoint: &str) -> Result<Engine, Error> {
        Engine::open_with(endpoint, Options::default())
    }

    /// The same with options.
    pub fn open_with(endpoint: &str, mut options: Options) -> Result<Engine, Error> {
        check_sizes()?;
        let mut queue = ptr::null_mut();
        // SAFETY: `queue` is valid; on success it is ours.
        let queue = unsafe {
            check(sys::troupe_queue_new(&mut queue))?;
            RawQueue::own(queue)
        };
        let reader = Arc::new(Reader { queue, boxes: Mutex::new(HashMap::new()), stopping: AtomicBool::new(false) });
        let shared = Arc::new(Shared {
            engine: OnceLock::new(),
            reader: Arc::clone(&reader),
            keys: AtomicU64::new(1),
            closed: RwLock::new(false),
        });
        let raw = open_raw(endpoint, &options, &reader)?;
        let _ = shared.engine.set(raw);
        let (sender, opening) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("troupe-reader".into())
            .spawn(move || reader.run(&sender))
            .map_err(|e| Error::because(Code::OutOfMemory, "no thread could be started", e))?;
        let engine = Engine { shared, thread: Mutex::new(Some(thread)) };
        for heard in opening {
            match heard {
                Opening::Ready => return Ok(engine),
                Opening::Failed(error) => return Err(error),
                Opening::Progress(phase, fraction) => {
                    if let Some(progress) = options.progress.as_mut() {
                        progress(&phase, fraction);
                    }
                }
            }
        }
        Err(Error::closed())
    }

    /// The same for async callers: loading goes on beside the task's thread.
    pub async fn open_async(endpoint: &str, options: Options) -> Result<Engine, Error> {
        let endpoint = endpoint.to_owned();
        off_thread(move || Engine::open_with(&endpoint, options)).await
    }

    pub(crate) fn with<T>(&self, call: impl FnOnce(*mut sys::troupe_engine) -> Result<T, Error>) -> Result<T, Error> {
        let closed = self.shared.closed.read().unwrap_or_else(|p| p.into_inner());
        if *closed {
            return Err(Error::closed());
        }
        call(self.shared.raw())
    }

    /// The answer as it comes.
    pub fn stream(&self, request: &Request) -> Result<Stream, Error> {
        let raw = request.build()?;
        let key = self.shared.keys.fetch_add(1, Ordering::Relaxed);
        let mailbox = Arc::new(Mailbox::new());
        let reader = &self.shared.reader;
        let submitted = self.with(|engine| {
            reader.boxes.lock().unwrap_or_else(|p| p.into_inner()).insert(key, Arc::clone(&mailbox));
            let mut id = 0;
            // SAFETY: engine, request and queue are alive; `id` is valid.
            unsafe { check(sys::troupe_submit(engine, raw.get(), reader.queue.get(), key, &mut id))? };
            Ok(id)
        });
        match submitted {
            Ok(id) => {
                let n = request.sampling.n.max(1) as usize;
                Ok(Stream::new(Arc::clone(&self.shared), mailbox, id, key, n))
            }
            Err(error) => {
                reader.forget(key);
                Err(error)
            }
        }
    }

    /// The whole answer; blocks.
    pub fn generate(&self, request: &Request) -> Result<Answer, Error> {
        self.stream(request)?.finish()
    }

    /// The whole answer, without blocking the task's thread. It is asked for at once; the future borrows nothing,
    /// so that it may be spawned, and dropping it cancels the request.
    pub fn generate_async(&self, request: &Request) -> impl Future<Output = Result<Answer, Error>> + Send + 'static {
        let stream = self.stream(request);
        async move { stream?.collect_answer().await }
    }

    /// Many answers at once, in their order.
    pub fn batch(&self, requests: &[Request]) -> Vec<Result<Answer, Error>> {
        const IN_FLIGHT: usize = 512;
        let mut answers = Vec::with_capacity(requests.len());
        let mut running = std::collections::VecDeque::new();
        let mut finish_one = |running: &mut std::collections::VecDeque<Result<Stream, Error>>| {
            if let Some(stream) = running.pop_front() {
                answers.push(stream.and_then(Stream::finish));
            }
        };
        for request in requests {
            if running.len() == IN_FLIGHT {
                finish_one(&mut running);
            }
            let mut stream = self.stream(request);
            while matches!(&stream, Err(e) if e.code() == Code::Overloaded) && !running.is_empty() {
                finish_one(&mut running);
                stream = self.stream(request);
            }
            running.push_back(stream);
        }
        while !running.is_empty() {
            finish_one(&mut running);
        }
        answers
    }

    /// What is open.
    pub fn info(&self) -> Result<Info, Error> {
        self.with(|engine| {
            // SAFETY: all-zero bytes are a valid value; strings end in NUL and live as long as the engine.
            unsafe {
                let mut raw: sys::troupe_info = std::mem::zeroed();
                raw.struct_size = std::mem::size_of_val(&raw) as u32;
                check(sys::troupe_engine_info(engine, &mut raw))?;
                let text = |p| CStr::from_ptr(p).to_string_lossy().into_owned();
                Ok(Info {
                    model: text(raw.model),
                    family: text(raw.family),
                    endpoint: text(raw.endpoint),
                    device: text(raw.device),
                    dtype: text(raw.dtype),
                    chat_template_origin: text(raw.chat_template_origin),
                    context_length: raw.context_length,
                    vocab_size: raw.vocab_size,
                    max_sequences: raw.max_sequences,
                    weight_bytes: raw.weight_bytes,
                    kv_bytes: raw.kv_bytes,
                    kv_tokens: raw.kv_tokens,
                    capabilities: raw.capabilities,
                })
            }
        })
    }

    /// Cheap: ask once a second, or more.
    pub fn stats(&self) -> Result<Stats, Error> {
        self.with(|engine| {
            // SAFETY: all-zero bytes are a valid value of this plain struct.
            let s = unsafe {
                let mut raw: sys::troupe_stats = std::mem::zeroed();
                raw.struct_size = std::mem::size_of_val(&raw) as u32;
                check(sys::troupe_engine_stats(engine, &mut raw))?;
                raw
            };
            Ok(Stats {
                waiting: s.waiting,
                running: s.running,
                sessions: s.sessions,
                submitted: s.submitted,
                refused: s.refused,
                done: s.done,
                cancelled: s.cancelled,
                failed: s.failed,
                prompt_tokens: s.prompt_tokens,
                cached_tokens: s.cached_tokens,
                completion_tokens: s.completion_tokens,
                images: s.images,
                steps: s.steps,
                preemptions: s.preemptions,
                kv_blocks_total: s.kv_blocks_total,
                kv_blocks_used: s.kv_blocks_used,
                uptime: Duration::from_nanos(s.uptime_ns.max(0) as u64),
            })
        })
    }

    /// Prometheus' text format.
    pub fn metrics(&self) -> Result<String, Error> {
        // SAFETY: on success the bytes are ours.
        self.text_call(|engine, out| unsafe { sys::troupe_engine_metrics(engine, out) })
    }

    /// The ids of a text. `add_special` adds BOS and its like.
    pub fn tokenize(&self, text: &str, add_special: bool) -> Result<Vec<i32>, Error> {
        let mut flags = sys::TROUPE_TEXT_PARSE_SPECIAL as u32;
        if add_special {
            flags |= sys::TROUPE_TEXT_ADD_SPECIAL as u32;
        }
        // SAFETY: the text outlives the call; on success the bytes are ours.
        let bytes = self.bytes_call(|engine, out| unsafe {
            sys::troupe_tokenize(engine, text.as_ptr().cast(), text.len(), flags, out)
        })?;
        Ok(bytes.chunks_exact(4).map(|b| i32::from_ne_bytes([b[0], b[1], b[2], b[3]])).collect())
    }

    /// The text of ids.
    pub fn detokenize(&self, ids: &[i32], skip_special: bool) -> Result<String, Error> {
        let flags = if skip_special { sys::TROUPE_TEXT_SKIP_SPECIAL as u32 } else { 0 };
        // SAFETY: the ids outlive the call; on success the bytes are ours.
        self.text_call(|engine, out| unsafe { sys::troupe_detokenize(engine, ids.as_ptr(), ids.len(), flags, out) })
    }

    /// The prompt after the chat template.
    pub fn render(&self, request: &Request) -> Result<String, Error> {
        let raw = request.build()?;
        // SAFETY: the request is alive; on success the bytes are ours.
        self.text_call(|engine, out| unsafe { sys::troupe_render(engine, raw.get(), out) })
    }

    fn bytes_call(
        &self,
        call: impl FnOnce(*mut sys::troupe_engine, *mut *mut sys::troupe_bytes) -> *mut sys::troupe_error,
    ) -> Result<Vec<u8>, Error> {
        self.with(|engine| {
            let mut out = ptr::null_mut();
            // SAFETY: on success `out` is ours.
            unsafe {
                check(call(engine, &mut out))?;
                Ok(take_bytes(out))
            }
        })
    }

    fn text_call(
        &self,
        call: impl FnOnce(*mut sys::troupe_engine, *mut *mut sys::troupe_bytes) -> *mut sys::troupe_error,
    ) -> Result<String, Error> {
        Ok(String::from_utf8_lossy(&self.bytes_call(call)?).into_owned())
    }

    /// A conversation whose work is kept.
    pub fn session(&self) -> Result<Session, Error> {
        self.session_with(None)
    }

    /// The same with a lease: unused for so long, it ends.
    pub fn session_with(&self, lease: Option<Duration>) -> Result<Session, Error> {
        self.with(|engine| {
            let mut out = ptr::null_mut();
            // SAFETY: init fills the whole struct, of which all-zero bytes are a valid value; on success `out`
            // is ours.
            unsafe {
                let mut raw: sys::troupe_session_options = std::mem::zeroed();
                sys::troupe_session_options_init(&mut raw, std::mem::size_of_val(&raw) as u32);
                raw.lease_ns = lease.map_or(raw.lease_ns, nanoseconds);
                check(sys::troupe_session_new(engine, &raw, &mut out))?;
                Ok(Session::own(out))
            }
        })
    }

    /// Lets others reach this engine: `tcp://127.0.0.1:*`, or ipc://path.
    pub fn serve(&self, bind: &str, options: &ServerOptions) -> Result<Server, Error> {
        Server::open(self, bind, options)
    }

    /// Refuses new work, gives what runs `patience`, cancels the rest. Idempotent; dropping does it too. Of several
    /// at once on an engine of this process the least patient counts, and each returns when it is closed.
    pub fn close(&self, patience: Duration) -> Result<(), Error> {
        *self.shared.closed.write().unwrap_or_else(|p| p.into_inner()) = true;
        // SAFETY: the engine is alive until the last stream is gone.
        let result = unsafe { check(sys::troupe_engine_close(self.shared.raw(), nanoseconds(patience))) };
        // Every terminal event is in the queue now; the reader hands them on and ends.
        self.shared.reader.stopping.store(true, Ordering::Release);
        // SAFETY: the queue is alive.
        unsafe { sys::troupe_queue_wake(self.shared.reader.queue.get()) };
        if let Some(thread) = self.thread.lock().unwrap_or_else(|p| p.into_inner()).take() {
            // A waker that drops the last engine runs on the reader's thread, which ends by itself; in a fork
            // there is no such thread.
            let own = thread.thread().id() == std::thread::current().id();
            if !own && !matches!(&result, Err(Error::Forked(_))) {
                let _ = thread.join();
            }
        }
        result
    }

    /// The same for async callers, who must not block their thread: neither by this nor by dropping the engine
    /// while much runs.
    pub async fn close_async(self, patience: Duration) -> Result<(), Error> {
        off_thread(move || self.close(patience)).await
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.close(Duration::ZERO);
    }
}

fn open_raw(endpoint: &str, options: &Options, reader: &Reader) -> Result<RawEngine, Error> {
    let endpoint = c_string(endpoint, "endpoint")?;
    let mut alive = Vec::new();
    let mut text = |value: &Option<String>, field: &str| -> Result<*const core::ffi::c_char, Error> {
        let Some(value) = value else { return Ok(ptr::null()) };
        alive.push(c_string(value, field)?);
        Ok(alive[alive.len() - 1].as_ptr())
    };
    let settings: Vec<CString> = options.settings.iter().map(|s| c_string(s, "settings")).collect::<Result<_, _>>()?;
    let setting_pointers: Vec<_> = settings.iter().map(|s| s.as_ptr()).collect();
    // SAFETY: init fills the whole struct, of which all-zero bytes are a valid value; what it points to
    // outlives the call, which copies it.
    unsafe {
        let mut raw: sys::troupe_engine_options = std::mem::zeroed();
        sys::troupe_engine_options_init(&mut raw, std::mem::size_of_val(&raw) as u32);
        raw.queue = reader.queue.get();
        raw.device = text(&options.device, "device")?;
        raw.dtype = text(&options.dtype, "dtype")?;
        raw.kv_dtype = text(&options.kv_dtype, "kv_dtype")?;
        raw.load_format = text(&options.load_format, "load_format")?;
        raw.chat_template = text(&options.chat_template, "chat_template")?;
        raw.server_key = text(&options.server_key, "server_key")?;
        raw.client_public_key = text(&options.client_public_key, "client_public_key")?;
        raw.client_secret_key = text(&options.client_secret_key, "client_secret_key")?;
        let give = |to: &mut i32, from: Option<i32>| *to = from.unwrap_or(*to);
        give(&mut raw.threads, options.threads);
        give(&mut raw.tensor_parallel, options.tensor_parallel);
        give(&mut raw.max_sequences, options.max_sequences);
        give(&mut raw.max_waiting, options.max_waiting);
        give(&mut raw.max_step_tokens, options.max_step_tokens);
        give(&mut raw.context_length, options.context_length);
        give(&mut raw.block_tokens, options.block_tokens);
        give(&mut raw.prefix_reuse, options.prefix_reuse.map(i32::from));
        give(&mut raw.overlap, options.overlap.map(i32::from));
        give(&mut raw.deterministic, options.deterministic.map(i32::from));
        raw.kv_bytes = options.kv_bytes.unwrap_or(raw.kv_bytes);
        raw.seed = options.seed.unwrap_or(raw.seed);
        raw.connect_timeout_ns = options.connect_timeout.map_or(raw.connect_timeout_ns, nanoseconds);
        (raw.settings, raw.n_settings) = (setting_pointers.as_ptr(), setting_pointers.len());
        let mut out = ptr::null_mut();
        check(sys::troupe_engine_open(endpoint.as_ptr(), &raw, &mut out))?;
        Ok(RawEngine::own(out))
    }
}
