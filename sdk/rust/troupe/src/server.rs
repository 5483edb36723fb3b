//! Serving an engine of this process to others, and the keys that keep strangers out.

use std::ffi::{CStr, CString};
use std::fmt;
use std::ptr;
use std::time::Duration;

use troupe_sys as sys;

use crate::engine::{c_string, nanoseconds, Engine};
use crate::error::{check, Error};
use crate::raw::RawServer;

/// How an engine is served. `Default`: without keys, on loopback alone.
#[derive(Clone, Debug, Default)]
pub struct ServerOptions {
    /// Bind beyond loopback without keys.
    pub allow_plaintext: bool,
    /// The server's own pair, from [`keygen`].
    pub keys: Option<KeyPair>,
    /// A file with one allowed client's public key per line; any client without it.
    pub client_keys: Option<String>,
    /// How long answers wait for a lost client.
    pub resume_window: Option<Duration>,
    /// key=value: limits of one client and their like (docs/protocol.md).
    pub settings: Vec<String>,
}

/// A CURVE pair in Z85. The public half may be told to everybody.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// For the others.
    pub public: String,
    /// For its owner alone.
    pub secret: String,
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPair").field("public", &self.public).finish_non_exhaustive()
    }
}

/// A new pair, for a server or for one client.
pub fn keygen() -> Result<KeyPair, Error> {
    let mut public = [0; sys::TROUPE_KEY_SIZE];
    let mut secret = [0; sys::TROUPE_KEY_SIZE];
    // SAFETY: each has the size that the library writes, the NUL included.
    unsafe {
        check(sys::troupe_keygen(public.as_mut_ptr(), secret.as_mut_ptr()))?;
        let text = |key: &[core::ffi::c_char]| CStr::from_ptr(key.as_ptr()).to_string_lossy().into_owned();
        Ok(KeyPair { public: text(&public), secret: text(&secret) })
    }
}

/// An engine that others reach; closed when dropped. The engine stays open.
pub struct Server {
    raw: RawServer,
    endpoint: String,
}

impl Server {
    pub(crate) fn open(engine: &Engine, bind: &str, options: &ServerOptions) -> Result<Server, Error> {
        let bind = c_string(bind, "bind")?;
        let text = |value: Option<&String>, field| value.map(|v| c_string(v, field)).transpose();
        let public = text(options.keys.as_ref().map(|k| &k.public), "keys.public")?;
        let secret = text(options.keys.as_ref().map(|k| &k.secret), "keys.secret")?;
        let client_keys = text(options.client_keys.as_ref(), "client_keys")?;
        let settings: Vec<CString> = options.settings.iter().map(|s| c_string(s, "settings")).collect::<Result<_, _>>()?;
        let pointers: Vec<_> = settings.iter().map(|s| s.as_ptr()).collect();
        let pointer = |value: &Option<CString>| value.as_ref().map_or(ptr::null(), |v| v.as_ptr());
        engine.with(|engine| {
            let mut out = ptr::null_mut();
            // SAFETY: init fills the whole struct, of which all-zero bytes are a valid value; what it points
            // to outlives the call, which copies it; on success `out` is ours.
            unsafe {
                let mut raw: sys::troupe_server_options = std::mem::zeroed();
                sys::troupe_server_options_init(&mut raw, std::mem::size_of_val(&raw) as u32);
                raw.allow_plaintext = i32::from(options.allow_plaintext);
                (raw.public_key, raw.secret_key) = (pointer(&public), pointer(&secret));
                raw.client_keys = pointer(&client_keys);
                raw.resume_window_ns = options.resume_window.map_or(raw.resume_window_ns, nanoseconds);
                (raw.settings, raw.n_settings) = (pointers.as_ptr(), pointers.len());
                check(sys::troupe_server_open(engine, bind.as_ptr(), &raw, &mut out))?;
                let endpoint = CStr::from_ptr(sys::troupe_server_endpoint(out)).to_string_lossy().into_owned();
                Ok(Server { raw: RawServer::own(out), endpoint })
            }
        })
    }

    /// Where it listens, with the port that was chosen: what [`Engine::open`] takes elsewhere.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Takes nothing new, gives what runs `patience`, cancels the rest, says goodbye. Idempotent.
    pub fn close(&self, patience: Duration) -> Result<(), Error> {
        // SAFETY: the server is alive.
        unsafe { check(sys::troupe_server_close(self.raw.get(), nanoseconds(patience))) }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}
