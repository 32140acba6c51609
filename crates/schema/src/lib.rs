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

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = "\
# Not one of Kafka's.
api Lock key 900 versions 1-4 unstable 5 flexible 3+

request
  name    string
  owners  []Owner?2+
    id    producer_id      = -1
    host  string?    2-3   = null   # where it runs
  wait_ms int32      3+    tag 0

response
  error_code  error_code
";

    /// The definitions of that text, once `from` in it is replaced by `to`.
    fn parse(from: &str, to: &str) -> Result<Protocol, Error> {
        assert!(LOCK.contains(from), "{from:?} is in the text");
        let file = parse::file(Path::new("lock.api"), "lock", false, &LOCK.replacen(from, to, 1))?;
        let protocol = Protocol { files: vec![file] };
        check::protocol(&protocol)?;
        Ok(protocol)
    }

    #[test]
    fn a_definition_says_what_each_version_has() {
        let protocol = parse("", "").expect("the definition is right");
        let file = &protocol.files[0];
        assert_eq!(file.notes, ["Not one of Kafka's."]);
        let request = file.find("Request").expect("a request");
        assert_eq!(request.versions, model::Versions { first: 1, last: 5 });
        let owner = file.find("Owner").expect("the struct of the nested lines");
        let host = &owner.fields[1];
        assert_eq!(host.versions, model::Versions { first: 2, last: 3 });
        assert_eq!(host.nullable, Some(host.versions));
        assert_eq!(host.default, Some(model::Literal::Null));
        assert_eq!(host.notes, ["where it runs"]);
        // Version 1: the lengths of the name and of the array. From version 3 on a byte each, and the tags.
        assert_eq!(file.min_size("Request"), 3);
        assert_eq!(file.min_size("Owner"), 8);
    }

    #[test]
    fn emitted_code_asks_for_the_version_only_where_it_matters() {
        let code = messages(&parse("", "").expect("the definition is right"));
        assert!(code.contains("        m.name = r.string(flexible);\n"), "{code}");
        assert!(code.contains("let flexible = version >= 3;"));
        assert!(code.contains("if (2..=3).contains(&version) { m.host = r.nullable_string(flexible); }"));
        assert!(code.contains("if version >= 2 { r.nullable_structures(flexible, version) } else"));
        assert!(code.contains("900 Lock 1 4 5 3,"));
    }

    #[test]
    fn mistakes_are_reported_with_file_and_line() {
        let mistakes = [
            ("api Lock", "api Locks", "2: Locks belongs in locks.api"),
            ("key 900 ", "", "2: the api has no key"),
            ("response", "struct Spare", "2: there is no response"),
            ("response", "answer", "11: expected api, request, response, record or struct, found \"answer\""),
            ("int32", "int33", "9: \"int33\" is no type"),
            ("3+    tag 0", "2+ tag 0", "9: wait_ms is tagged in versions that are not flexible"),
            ("3+    tag 0", "tag", "9: tag of what?"),
            ("3+    tag 0", "3+ tagged", "9: \"tagged\" is not expected here"),
            ("3+    tag 0", "3-9 tag 0", "9: versions 3-9 of wait_ms are not within 1-5"),
            ("= -1", "= x", "7: \"x\" is no number that fits here"),
            ("= -1", "= null", "7: id cannot be null"),
            ("    id", "      id", "7: indented too far; use two spaces a level"),
            ("host ", "id ", "8: a second field id"),
            ("[]Owner?2+\n", "string\n", "7: owners is no struct and has no fields"),
            ("error_code  error_code", "error_code  Code", "12: there is no struct Code"),
            ("host  string?    2-3   = null", "more  []Owner", "6: Owner contains itself"),
        ];
        for (from, to, expected) in mistakes {
            let error = parse(from, to).expect_err(expected).to_string();
            assert_eq!(error, format!("lock.api:{expected}"));
        }
    }
}
