//! Reads the protocol definition files and emits the Rust of the messages.
//!
//! The notation is described in `protocol/README.md`. `wire`'s build script calls [`load`] and [`messages`];
//! nothing here runs in the broker.

mod check;
mod emit;
pub mod model;
mod parse;
mod samples;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

pub use emit::messages;
use model::{File, Protocol};
pub use samples::samples;

/// What is wrong with a definition, and where: `protocol/produce.api:12: "int33" is no type`.
#[derive(Debug, thiserror::Error)]
pub struct Error {
    path: PathBuf,
    line: usize,
    message: String,
}

impl Error {
    fn new(path: &Path, line: usize, message: impl Into<String>) -> Error {
        Error { path: path.into(), line, message: message.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path.display(), self.line, self.message)
    }
}

/// Reads and checks every `.api` file of `folder`, and of `internal` within it.
pub fn load(folder: &Path) -> Result<Protocol, Error> {
    let mut files = Vec::new();
    for (folder, internal) in [(folder.to_owned(), false), (folder.join("internal"), true)] {
        for path in api_files(&folder)? {
            files.push(load_file(&path, internal)?);
        }
    }
    let protocol = Protocol { files };
    check::protocol(&protocol)?;
    Ok(protocol)
}

fn load_file(path: &Path, internal: bool) -> Result<File, Error> {
    let text = fs::read_to_string(path).map_err(|error| Error::new(path, 0, error.to_string()))?;
    let module = path.file_stem().map(|stem| stem.to_string_lossy()).unwrap_or_default();
    parse::file(path, &module, internal, &text)
}

fn api_files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let fail = |error: std::io::Error| Error::new(folder, 0, error.to_string());
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if path.extension().is_some_and(|extension| extension == "api") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}
