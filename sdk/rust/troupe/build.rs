//! Gives this crate's tests and examples the run path of libtroupe.

fn main() {
    if let Ok(folder) = std::env::var("DEP_TROUPE_LIBDIR") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
    }
}
