//! Raw bindings to `troupe.h`; the rules stand in that header. Use the `troupe` crate instead.
#![no_std]
#![allow(non_camel_case_types, missing_docs)]

include!("bindings.rs");
