//! Finds libtroupe: TROUPE_LIB_DIR if it is set, else pkg-config.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-env-changed=TROUPE_LIB_DIR");
    println!("cargo:rerun-if-env-changed=PKG_CONFIG_PATH");
    if env::var_os("DOCS_RS").is_some() {
        return;
    }
    println!("cargo:rustc-link-lib=dylib=troupe");
    if let Ok(folder) = env::var("TROUPE_LIB_DIR") {
        link_from(&folder);
        return;
    }
    let found = Command::new("pkg-config").args(["--variable=libdir", "troupe"]).output();
    match found {
        Ok(output) if output.status.success() => link_from(String::from_utf8_lossy(&output.stdout).trim()),
        _ => println!("cargo:warning=libtroupe was not found by pkg-config; set TROUPE_LIB_DIR to its folder"),
    }
}

fn link_from(folder: &str) {
    println!("cargo:rustc-link-search=native={folder}");
    // Dependents see it as DEP_TROUPE_LIBDIR, for their run paths.
    println!("cargo:libdir={folder}");
}
