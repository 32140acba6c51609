//! What a check has found: a fault, or something worth a note, with its place.

use std::fmt;
use std::path::PathBuf;

use oncelog_wire::Offset;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As it may be: the broker sees to it by itself.
    Note,
    /// Something is lost, wrong, or contradicts something else.
    Fault,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The file or directory.
    pub file: PathBuf,
    /// The offset in the partition, where there is one.
    pub offset: Option<Offset>,
    /// The byte in the file, where it is known.
    pub position: Option<u64>,
    /// What is the matter, and what it means.
    pub what: String,
}

/// Where something was found.
#[derive(Clone, Debug)]
pub(crate) struct At {
    pub(crate) file: PathBuf,
    pub(crate) offset: Option<Offset>,
    pub(crate) position: Option<u64>,
}

impl At {
    pub(crate) fn file(file: impl Into<PathBuf>) -> At {
        At { file: file.into(), offset: None, position: None }
    }

    pub(crate) fn offset(self, offset: Offset) -> At {
        At { offset: Some(offset), ..self }
    }

    pub(crate) fn byte(self, position: u64) -> At {
        At { position: Some(position), ..self }
    }
}

impl Severity {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Note => "note",
            Severity::Fault => "fault",
        }
    }
}

impl Finding {
    /// The finding as a JSON object on one line.
    pub fn to_json(&self) -> String {
        let number = |value: Option<i64>| value.map_or("null".to_owned(), |value| value.to_string());
        format!(
            "{{\"severity\":\"{}\",\"file\":{},\"offset\":{},\"byte\":{},\"what\":{}}}",
            self.severity.name(),
            json_string(&self.file.to_string_lossy()),
            number(self.offset.map(|offset| offset.0)),
            number(self.position.map(|position| position as i64)),
            json_string(&self.what),
        )
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:5} {}", self.severity.name(), self.file.display())?;
        if let Some(offset) = self.offset {
            write!(f, ", offset {offset}")?;
        }
        if let Some(position) = self.position {
            write!(f, ", byte {position}")?;
        }
        write!(f, ": {}", self.what)
    }
}

fn json_string(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            control if control < ' ' => out.push_str(&format!("\\u{:04x}", control as u32)),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line_of_text_or_json() {
        let finding = Finding {
            severity: Severity::Fault,
            file: "d/t-0/00000000000000000000.log".into(),
            offset: Some(Offset(7)),
            position: Some(81),
            what: "a \"quoted\"\nthing".into(),
        };
        assert_eq!(
            finding.to_string(),
            "fault d/t-0/00000000000000000000.log, offset 7, byte 81: a \"quoted\"\nthing"
        );
        assert_eq!(
            finding.to_json(),
            r#"{"severity":"fault","file":"d/t-0/00000000000000000000.log","offset":7,"byte":81,"what":"a \"quoted\"\u000athing"}"#
        );
    }
}
