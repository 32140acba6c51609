//! Emits the messages from `protocol/`, and what the tests need to make samples of them.

use std::path::PathBuf;
use std::{env, fs};

fn main() {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let protocol = manifest.join("../../protocol");
    println!("cargo::rerun-if-changed={}", protocol.display());
    let definitions = match oncelog_schema::load(&protocol) {
        Ok(definitions) => definitions,
        Err(error) => {
            println!("cargo::error={error}");
            return;
        }
    };
    fs::write(out.join("messages.rs"), oncelog_schema::messages(&definitions)).expect("OUT_DIR is writable");
    fs::write(out.join("samples.rs"), oncelog_schema::samples(&definitions)).expect("OUT_DIR is writable");
}
